// Package device is what runs on a device: a store for its keys, the making
// of its bootstrap certificate, an EST client (RFC 7030, RFC 8951), and the
// [Device] that turns a unit fresh from the line into one with an official
// certificate, and keeps that certificate fresh.
//
// It survives a power cut at every step. The rule behind that: whatever a
// request commits the device to is in the store before the request leaves. A
// device that wakes up without an answer finds its pending key and asks
// again with it; the server answers with the same certificate and takes no
// second unit of the order.
//
// The package shares no code with the server, so that a mistake in reading
// the standard shows as a failed test instead of cancelling itself out.
package device
