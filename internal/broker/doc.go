// Package broker is the heart of the server: it connects sessions to the log.
//
// # One message's way
//
//	Session.Publish ─► queue ─► Run: Log.Append (one fsync for all that wait)
//	                                   ├─► Published to the publisher's session
//	                                   └─► feeds: the batch joins the feed of each
//	                                       subscribed topic that covers it, and
//	                                       rings that feed's subscriptions
//	Session.Next ◄─ a subscription reads on from its cursor: from its feed, or
//	                from the log when the feed does not reach back that far
//
// Nothing is pushed at a session and nothing queues for it: a bell only says
// that there is something to read. Replay, live delivery and catching up are the
// same read from a different cursor. A slow reader therefore costs nobody
// anything, and loses nothing that the log still has.
//
// # Letters
//
// A letter is a Publish of its own kind: the messages that it becomes, in the
// recipients' inboxes and in the sender's, go the same way and are stored by one
// append. Receipts are messages too. The constants in letter.go say what is where.
//
// # Locks
//
// In this order: Broker.mu, feeds.mu, feed.mu, Session.mu. Nothing blocks while it holds
// one of them, and the log is never called under any.
package broker
