// Package crl makes and serves certificate revocation lists (RFC 5280 §5).
//
// Each CA that issues to devices has a full list, a delta list, which holds
// what changed since the full one, and one list for each partition of its
// certificates. A [Revoked] holds what is on the lists in memory, a [Maker]
// makes those that are due and puts them into a [Store], a [Handler] serves
// them from there, on any node.
package crl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// Prefix is the path below which all lists are.
const Prefix = "/crl/"

// MaxPartitions bounds into how many partitions the certificates of a CA may
// be divided. The number is a power of two.
const MaxPartitions = 4096

// Scope says which of a CA's certificates a list speaks of.
type Scope struct {
	// Partitions is into how many the certificates are divided, and
	// Partition the one that the list speaks of, counted from 0. Zero
	// Partitions stand for all certificates of the CA.
	Partitions, Partition int
	// Delta marks the list of what changed since the full one.
	Delta bool
}

// Full is the scope of a list of all certificates that a CA revoked.
var Full = Scope{}

// Delta is the scope of what changed since the full list.
var Delta = Scope{Delta: true}

// String gives the scope as an operator reads it: "full", "delta", "3/16".
func (s Scope) String() string {
	switch {
	case s.Delta:
		return "delta"
	case s.Partitions == 0:
		return "full"
	}
	return fmt.Sprintf("%d/%d", s.Partition, s.Partitions)
}

// Place is where the scope comes in the order of a CA's lists, from 1 on.
func (s Scope) Place() int64 {
	at := 2 * (int64(s.Partitions)*MaxPartitions + int64(s.Partition))
	if s.Delta {
		at++
	}
	return at + 1
}

// CheckPartitions reports whether a CA's certificates can be divided into n
// partitions.
func CheckPartitions(n int) error {
	if n < 1 || n > MaxPartitions || n&(n-1) != 0 {
		return fmt.Errorf("%d partitions: want a power of two up to %d, such as 16", n, MaxPartitions)
	}
	return nil
}

// shard is where a certificate belongs in the finest division there is. Its
// remainder by a smaller power of two is the certificate's partition of so
// many.
func shard(s ocsp.Serial) int {
	return int(binary.BigEndian.Uint16(s[7:9])) % shards // of its random bytes
}

// PartitionOf is the partition of n, a power of two, that holds the
// certificate with that serial number. Whoever puts a distribution point into
// a certificate and whoever makes the lists must agree on it for good.
func PartitionOf(s ocsp.Serial, n int) Scope { return Scope{Partitions: n, Partition: shard(s) % n} }

// Path is where the list is below a server's base URL.
func (s Scope) Path(issuer string) string {
	at := Prefix + url.PathEscape(issuer)
	switch {
	case s.Delta:
		return at + "/delta.crl"
	case s.Partitions == 0:
		return at + ".crl"
	}
	return at + "/" + strconv.Itoa(s.Partitions) + "/" + strconv.Itoa(s.Partition) + ".crl"
}

// URL is where the list is, as certificates and lists say it.
func (s Scope) URL(base, issuer string) string { return strings.TrimSuffix(base, "/") + s.Path(issuer) }

// ParsePath reads what Path wrote. It takes each list's one spelling only, as
// it is in the request, still escaped.
func ParsePath(path string) (issuer string, s Scope, ok bool) {
	rest, ok := strings.CutPrefix(path, Prefix)
	rest, named := strings.CutSuffix(rest, ".crl")
	if !ok || !named {
		return "", s, false
	}
	parts := strings.Split(rest, "/")
	issuer, err := url.PathUnescape(parts[0])
	if err != nil || issuer == "" {
		return "", s, false
	}
	switch len(parts) {
	case 1:
	case 2:
		s.Delta = true
	case 3:
		s.Partitions, _ = strconv.Atoi(parts[1])
		s.Partition, _ = strconv.Atoi(parts[2])
		ok = CheckPartitions(s.Partitions) == nil && s.Partition >= 0 && s.Partition < s.Partitions
	}
	return issuer, s, ok && s.Path(issuer) == path
}

// NamedBy gives the number of partitions of the list that a certificate of a
// CA names as its distribution point; 0 if it names none. It looks for the
// list's path in the certificate's bytes: who asks has read millions of them.
func NamedBy(der []byte, issuer string) (partitions int) {
	_, rest, _ := bytes.Cut(der, []byte(Prefix+url.PathEscape(issuer)+"/"))
	digits, _, found := bytes.Cut(rest[:min(len(rest), len(strconv.Itoa(MaxPartitions))+1)], []byte("/"))
	if n, err := strconv.Atoi(string(digits)); found && err == nil && CheckPartitions(n) == nil {
		return n
	}
	return 0
}

// Kept is a made list, but for its bytes.
type Kept struct {
	// Issuer is the CA, by its number in the database.
	Issuer int64
	Scope  Scope
	// Number is the CRLNumber (RFC 5280 §5.2.3): at least the time of the list
	// in seconds since 1970, so that it grows also where a database was set
	// back to a backup. A full list and its deltas share one series; each
	// partition has its own.
	Number int64
	// Base is the number of the full list that a delta completes; 0 for the
	// others.
	Base int64
	// Seq is the newest change of a certificate that the list knows of.
	Seq                    int64
	ThisUpdate, NextUpdate time.Time // whole seconds
	// Certificates that had ended before Since are on the list no more: each
	// was on one that was made after its end (RFC 5280 §3.3). A delta's is
	// that of its base.
	Since time.Time
	// Entries is how many certificates are on it, Size its length in bytes,
	// Digest the SHA-256 of its bytes. One of 0 bytes has ended.
	Entries int
	Size    int64
	Digest  [32]byte
	// Body names the bytes, Version the place of the list in the order in
	// which lists were kept; both are the store's to choose.
	Body, Version int64
}

// Ended reports whether there is such a list no more. Its number is kept, so
// that the series goes on from there should it be wanted again.
func (k *Kept) Ended() bool { return k.Size == 0 }
