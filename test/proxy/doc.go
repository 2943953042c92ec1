// Package proxy tests the server behind a real nginx, configured by the file
// that is shipped, deploy/nginx/parley.conf.
package proxy
