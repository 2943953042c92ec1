package server

// oldNames are the names that the Gobbler server's settings had in the
// environment, without prefix, by key. Only its own settings have one.
func oldNames() map[string]string {
	names := map[string]string{
		"http":                "HTTP_LISTEN",
		"ws":                  "WS",
		"ws-prefix":           "WS_PREFIX",
		"health-endpoint":     "HEALTH_ENDPOINT",
		"prometheus-endpoint": "PROMETHEUS_ENDPOINT",
		"metrics-endpoint":    "METRICS_ENDPOINT",
		"toggles-endpoint":    "TOGGLES_ENDPOINT",
		"ms":                  "MS",
		"kvs":                 "KVS",
		"storage-path":        "STORAGE_PATH",
		"log":                 "LOG",
		"env":                 "ENV",
		"profile":             "PROFILE",
		"remotes":             "NODE_REMOTES",
	}
	for _, key := range absentKeys() {
		if names[key] == "" {
			names[key] = envName(key)
		}
	}
	return names
}
