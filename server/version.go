package server

// version is that of the whole program.
const version = "0.1.0"

// Version is the program's version, by semantic versioning.
func Version() string { return version }
