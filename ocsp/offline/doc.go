// Package offline tells whether a device certificate still counts where no
// server can be asked: from a file that holds the standing of every
// certificate that one issuing CA has issued, in little more than the least
// space that this can take.
//
// The file is a filter, signed by the issuing CA, and exact: all certificates
// that were issued are known when it is made, so it gives no false answer for
// any of them. What it calls not good is revoked or on hold; it does not tell
// these apart.
//
// [Open] takes a base, [Filter.With] a later delta, which is small and says
// what has changed since that base. [Filter.Check] answers for a certificate.
// [Build] makes both. docs/offline-status.md describes the bytes.
//
// The package needs nothing but the standard library.
package offline
