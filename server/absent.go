package server

import (
	"errors"
	"slices"
)

// absent is a part of the Gobbler server that this one does not have.
type absent struct {
	keys    []string
	instead string
}

// absentParts are all of them. A new part of this server takes its line away.
func absentParts() []absent {
	const follow = "a program of your own can follow the topic, with \"parley sub --json TOPIC\" or the Go client, and do that"
	return []absent{
		{
			[]string{"pg-host", "pg-port", "pg-user", "pg-password", "pg-dbname"},
			"PostgreSQL is not supported in this version: records are kept in the store itself; leave it out, and use --kvs file",
		},
		{
			[]string{"fcm", "fcm-api-key", "fcm-workers", "fcm-endpoint", "fcm-prefix"},
			"pushing to FCM is not supported in this version; leave it out: " + follow,
		},
		{
			[]string{
				"apns", "apns-production", "apns-cert-file", "apns-cert-bytes", "apns-cert-password", "apns-app-topic",
				"apns-prefix", "apns-workers",
			},
			"pushing to APNs is not supported in this version; leave it out: " + follow,
		},
		{
			[]string{"sms", "sms-api-key", "sms-api-secret", "sms-topic", "sms-toggleable", "sms-workers"},
			"sending SMS is not supported in this version; leave it out: " + follow,
		},
		{
			[]string{"kafka-brokers", "sms-kafka-topic", "subscribe-kafka-topic", "apns-kafka-topic", "fcm-kafka-topic"},
			"reporting to Kafka is not supported in this version; leave it out: " + follow,
		},
		{
			[]string{"node-id", "node-port", "remotes"},
			"a cluster is not supported in this version; leave it out: there is one node",
		},
	}
}

// absentKeys are the keys of all absent parts.
func absentKeys() []string {
	var keys []string
	for _, part := range absentParts() {
		keys = append(keys, part.keys...)
	}
	return keys
}

// absentSettings accept what switches an absent part off, so that an old
// environment goes on working, and answer anything else with what to use
// instead. They hold nothing.
func absentSettings() []Setting {
	secrets := []string{"pg-password", "fcm-api-key", "apns-cert-bytes", "apns-cert-password", "sms-api-key", "sms-api-secret"}
	switches := []string{"fcm", "apns", "apns-production", "sms", "sms-toggleable"}
	var settings []Setting
	for _, part := range absentParts() {
		err := errors.New(part.instead)
		for _, key := range part.keys {
			settings = append(settings, Setting{
				Key: key, Usage: "not supported", Value: "VALUE", Allowed: "empty, false or 0", Instead: part.instead,
				Secret: slices.Contains(secrets, key), Switch: slices.Contains(switches, key),
				set: func(_ *Config, values []string) []error {
					if off(values[0]) {
						return nil
					}
					return []error{err}
				},
				check: func(*Config) []error { return nil },
				get:   func(*Config) []string { return nil },
				copy:  func(*Config, *Config) {},
			})
		}
	}
	return settings
}

// off reports whether a value switches a part off.
func off(value string) bool { return value == "" || value == "false" || value == "0" }
