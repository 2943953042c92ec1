// Package server puts the parts together: a store, the broker over it, and the
// protocols that clients speak, behind one HTTP listener. A program that wants
// a messaging server inside it makes one with [New] and calls Run; the parley
// command does the same with a configuration from [Load].
//
//	            listener (one port, HTTP/1.1)
//	                │
//	admission: connections in all and per address, Host, Origin
//	     │                  │                    │
//	 /v1/rpc            /stream/              /admin/…
//	native codec       gobbler codec     health, metrics, topics
//	     └───── session ────┘                    │
//	                │                            │
//	             broker ─────────────────────────┤
//	                └──────────── log ───────────┘
//
// Each conversation runs in goroutines of its own that Run waits for.
package server
