// Package account knows users, their devices and credentials, and decides who
// may do what: [Principal.Allow] is asked by every protocol and route, and
// nothing else is. What it keeps are records in a KV.
package account
