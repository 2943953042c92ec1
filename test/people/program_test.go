package people_test

import "testing"

// TestProgram is what else people rely on while the program is stopped and killed.
func TestProgram(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T){
		"Stop":        stopWithLetters,
		"DeadLetters": deadLetters,
		"Devices":     equalDevices,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}
