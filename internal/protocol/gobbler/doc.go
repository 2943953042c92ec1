// Package gobbler is the codec for clients of the Gobbler messaging server, as
// they are deployed: a line-oriented text protocol in which a client sends
// commands and is told notifications and messages.
//
// A command is one frame, text or binary alike. Its first line is a name and an
// argument; a second line is the message's header and the rest its body:
//
//	> /topic [id] LF header LF body     publish
//	+ /topic [start [max]]              receive: fetch, subscribe, or both
//	- /topic                            cancel
//
// The server answers in binary frames, one for each thing it has to tell: a
// notification begins with '#', an error with '!', and everything else is a
// message, which begins with its topic and a line of eight fields.
//
// Beside this, the deployed dialect, there is the documented one: what that
// server's own page promised and the server never spoke. One codec speaks either;
// see Dialect.
//
// The package also has that server's HTTP routes, see API.
//
// The pages docs/protocol/gobbler.md and docs/protocol/gobbler-documented.md are
// the specification, with conversations that the tests of this package replay.
package gobbler
