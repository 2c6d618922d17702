package device

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// PEM is the credential as a file: the key in PKCS#8, or what its [Keyring]
// finds it by, then the chain.
func (c *Credential) PEM() ([]byte, error) {
	key := c.block
	if key == nil {
		der, err := x509.MarshalPKCS8PrivateKey(c.Key)
		if err != nil {
			return nil, fmt.Errorf("encode the key: %w", err)
		}
		key = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	var b bytes.Buffer
	blocks := []*pem.Block{key}
	for _, x := range c.Chain {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})
	}
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// ParseCredential reads a key and certificates from PEM, in any order of
// files joined together; the key may be PKCS#8 or SEC 1. The first
// certificate must be for the key.
func ParseCredential(data []byte) (*Credential, error) { return parseCredential(data, nil) }

func parseCredential(data []byte, keys Keyring) (*Credential, error) {
	c := new(Credential)
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if err := c.add(block, keys); err != nil {
			return nil, err
		}
	}
	if c.Key == nil {
		return nil, errors.New("there is no private key in the PEM data")
	}
	if len(c.Chain) > 0 {
		if err := checkFits(c.Key, c.Chain); err != nil {
			return nil, errors.New("the first certificate is not for the private key beside it")
		}
	}
	return c, nil
}

// inPEM reports whether a block holds a private key itself.
func inPEM(b *pem.Block) bool { return b.Type == "PRIVATE KEY" || b.Type == "EC PRIVATE KEY" }

// named reports whether a block may be what a keyring finds a key by.
func named(b *pem.Block) bool {
	return !inPEM(b) && b.Type != "CERTIFICATE" && b.Type != "EC PARAMETERS"
}

func (c *Credential) add(block *pem.Block, keys Keyring) error {
	switch {
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", len(c.Chain)+1, err)
		}
		c.Chain = append(c.Chain, cert)
		return nil
	case !inPEM(block) && (keys == nil || !named(block)):
		return nil // parameters and comments that openssl puts beside a key
	case c.Key != nil:
		return errors.New("there is more than one private key in the PEM data")
	case inPEM(block):
		key, err := parseKey(block)
		c.Key = key
		return err
	default:
		key, err := keys.Open(block)
		c.Key, c.block = key, block
		return err
	}
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "EC PRIVATE KEY" {
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the private key is not a SEC 1 key")
		}
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is not a PKCS#8 key") // the parser's error could quote key material
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return signer, nil
}
