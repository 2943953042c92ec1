// Package browser tests the server with a real browser, Chromium without a
// screen, and the page that docs/tasks/follow-from-a-browser.md shows.
package browser
