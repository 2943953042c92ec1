// Package texto speaks the protocol of the Texto chat server: one JSON object in
// each WebSocket message, from session to session.
//
// A session is made by connecting and named by a random UUID, which is all the
// identity there is. A message goes to the session that it names, if that is there;
// nothing is stored, and an ack says that the message was handed over, not that
// somebody has it.
//
// A [Relay] knows the sessions of this node. By way of Redis, nodes hand messages
// to each other: every node publishes what its sessions send and follows what all
// publish, in the form that the original server has, so that nodes of both kinds
// work together.
package texto
