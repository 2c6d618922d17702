package tpm

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// keyFile is a wrapped key as tools around OpenSSL and others keep it (ASN.1
// Specification for TPM 2.0 Key Files, §3.1).
type keyFile struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool `asn1:"optional,explicit,tag:0"`
	Parent    int64
	Public    []byte
	Private   []byte
}

const (
	blockType   = "TSS2 PRIVATE KEY"
	parentOwner = int64(tpm2.TPMRHOwner) // the storage root key
)

var oidLoadable = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// block is the key for a slot's file.
func (w *wrapped) block(emptyAuth bool) (*pem.Block, error) {
	der, err := asn1.Marshal(keyFile{Type: oidLoadable, EmptyAuth: emptyAuth, Parent: parentOwner, Public: tpm2.Marshal(w.public), Private: tpm2.Marshal(w.private)})
	if err != nil {
		return nil, err
	}
	return &pem.Block{Type: blockType, Bytes: der}, nil
}

// parseBlock reads what block wrote.
func parseBlock(b *pem.Block) (*wrapped, error) {
	if b.Type != blockType {
		return nil, fmt.Errorf("a PEM block %q is no key of a TPM: want %q", b.Type, blockType)
	}
	var file keyFile
	rest, err := asn1.Unmarshal(b.Bytes, &file)
	switch {
	case err != nil || len(rest) > 0:
		return nil, fmt.Errorf("the key of the TPM is damaged (%w)", err)
	case !file.Type.Equal(oidLoadable) || file.Parent != parentOwner:
		return nil, fmt.Errorf("the key is of the type %s below %#x: this agent knows those that it made itself, %s below %#x", file.Type, file.Parent, oidLoadable, parentOwner)
	}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](file.Public)
	if err != nil {
		return nil, fmt.Errorf("the key of the TPM is damaged: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](file.Private)
	if err != nil {
		return nil, fmt.Errorf("the key of the TPM is damaged: %w", err)
	}
	return &wrapped{*public, *private}, nil
}

// key is the public key.
func (w *wrapped) key() (*ecdsa.PublicKey, error) {
	area, err := w.public.Contents()
	if err != nil {
		return nil, fmt.Errorf("the key of the TPM is damaged: %w", err)
	}
	public, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fmt.Errorf("the key of the TPM is damaged: %w", err)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the key of the TPM is no key for ECDSA")
	}
	return key, nil
}
