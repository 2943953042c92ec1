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
//	< (closed 1000)               the server closes with that code; (closed): with any
//	close                         the client closes; the same name may open again
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
//
// # HTTP
//
// A conversation over HTTP has the info string "transcript http". Its lines are
//
//	// a remark
//	> POST /v1/messages/hello     a request: method and path,
//	> Content-Type: text/plain    headers,
//	>                             and after an empty line
//	> hi                          the body, without an LF at its end
//	< 201                         the answer's status,
//	< Location: $_                those of its headers that matter,
//	<                             and after an empty line, which may be left out
//	< {"topic":"/hello",…         where no header can be meant, the body
//
// A body whose first line begins with a double quote is a Go string literal. An
// answer without a body in the transcript may have any; its LF at the end is not
// compared. When the last line of a body is "…" it goes on in any way, or the
// stream stays open.
//
// # Shells
//
// A page of commands has blocks with the info string "sh". They are run in their
// order by one bash each, in one directory; a block "output" behind one says what
// it writes, with the same placeholders.
package protocoltest
