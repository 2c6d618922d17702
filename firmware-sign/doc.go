// Package firmwaresign signs firmware in the formats that bootloaders and
// update clients check.
//
// Signing is done in two halves, so that whoever holds the key never sees the
// image. Where the build runs, a [Format] reads the file, writes what is known
// of the signed one and says what is [ToSign]: digests, or short messages.
// Elsewhere, perhaps days later and in another room, [ToSign.Sign] signs
// exactly that, with a key that need not be in memory. Back where the build
// runs the file is finished. [Create] is the whole of it.
//
// Each format has a package below this one, and there a function Verify that
// reads a signed file without the code that wrote it. The package knows no
// server, no database and no clock.
package firmwaresign
