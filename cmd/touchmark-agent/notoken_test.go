//go:build !pkcs11

package main

// tags and cgo are how the program is built that the tests run.
const tags, cgo = "", "CGO_ENABLED=0"
