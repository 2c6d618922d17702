//go:build pkcs11

package token

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"slices"
)

// reference is what a slot's file says about a key in a token.
type reference struct {
	Object string `asn1:"utf8"`
	ID     []byte // CKA_ID
	Public []byte // SubjectPublicKeyInfo
}

const blockType = "PKCS11 KEY REFERENCE"

func (r *reference) block() (*pem.Block, error) {
	der, err := asn1.Marshal(*r)
	return &pem.Block{Type: blockType, Bytes: der}, err
}

func parseBlock(b *pem.Block) (*reference, error) {
	if b.Type != blockType {
		return nil, fmt.Errorf("a PEM block %q is no key in a token: want %q", b.Type, blockType)
	}
	var r reference
	rest, err := asn1.Unmarshal(b.Bytes, &r)
	if err == nil {
		_, err = x509.ParsePKIXPublicKey(r.Public)
	}
	if err != nil || len(rest) > 0 || len(r.ID) == 0 {
		return nil, fmt.Errorf("the reference to a key in a token is damaged (%w)", err)
	}
	return &r, nil
}

// places are how many keys the token may hold of this agent: one more than
// there are slots. So a key that was made when power was cut, and that no slot
// came to hold, is in nobody's way for long: the next key takes its place.
const places = 4

// free is the ID of a place that none of the blocks holds.
func free(taken []*pem.Block) ([]byte, error) {
	var held [][]byte
	for _, b := range taken {
		if r, err := parseBlock(b); err == nil {
			held = append(held, r.ID)
		}
	}
	for n := range places {
		id := []byte{'t', 'm', byte('1' + n)}
		if !slices.ContainsFunc(held, func(h []byte) bool { return bytes.Equal(h, id) }) {
			return id, nil
		}
	}
	return nil, fmt.Errorf("the slots hold %d keys of the token already", places)
}
