// Package docs tests that the guides tell the truth: it builds the programs,
// starts a server in a directory of its own, and works with it by the
// command line, curl and openssl, as the guides say.
package docs
