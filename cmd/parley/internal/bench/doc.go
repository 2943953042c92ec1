// Package bench puts a load on a server and measures what it makes of it. It
// speaks the Gobbler protocol, and for users' messages the native one, with frames made by hand and written many at a
// time, so that the measuring costs as little of the machine as it can.
package bench
