// Package protocoltest replays written conversations against a server, so that
// what a protocol's page says is what the server does.
//
// A conversation is a fenced block of a Markdown file whose info string is
// "transcript" and the protocol's name. Each is played against a server of its
// own. A line is one of
//
//	// a remark
//	open /stream/user/marvin      a connection is opened
//	> text                        the client sends a frame
//	< text                        the server sends a frame
//	| text                        a further line of the frame above, after an LF
//	< (nothing)                   the server is silent
//
// With several connections each line begins with a name in capitals:
//
//	A: open /stream/user/ann
//	A> text
//	B< text
//
// Text that begins with a double quote is a Go string literal, so that it can
// hold any byte; other text is taken as it stands. In what the server sends,
// $_ stands for any text without white space, comma, double quote or closing
// bracket, and $NAME for such a text that is the same wherever the name returns
// in the conversation, also in what a client sends after it.
//
// The frames of one connection are expected in their order; frames of different
// connections may arrive in any. A frame that the conversation does not mention
// is a fault. Silence is shown by a harmless command, whose answer must be the
// next frame; so is the end of a conversation, on every connection.
package protocoltest
