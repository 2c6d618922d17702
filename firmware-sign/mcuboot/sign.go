package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
)

// draft is an image that lacks its signatures.
type draft struct {
	im      *Image
	size    int64 // written so far
	digest  []byte
	hashTLV uint16
	signers []signer
	want    []firmwaresign.ToSign
}

// signer is what an image needs to know of a key.
type signer struct {
	pub       crypto.PublicKey
	alg       firmwaresign.Algorithm
	encoded   []byte // as bootloaders have the key
	signature uint16 // type of the TLV
	hash      crypto.Hash
}

// Prepare writes the image up to the end of the protected TLVs.
func (im *Image) Prepare(file *io.SectionReader, out io.Writer) (firmwaresign.Draft, error) {
	l, err := im.lay(file)
	if err != nil {
		return nil, err
	}
	d := &draft{im: im, size: int64(len(l.header)) + l.payload + l.padding + int64(len(l.protected))}
	if d.signers, err = im.signers(); err != nil {
		return nil, err
	}
	if im.Pure && d.size > firmwaresign.MaxMessage {
		return nil, fmt.Errorf("the image is %d bytes long: a pure signature is over at most %d", d.size, firmwaresign.MaxMessage)
	}
	if err := im.Slot.fits(d.size+d.trailer(), im.ContentKey); err != nil {
		return nil, err
	}
	if out == nil {
		out = io.Discard
	}
	h := d.signers[0].hash.New()
	d.hashTLV = hashTLVs[d.signers[0].hash]
	var whole bytes.Buffer // a pure signature's message
	if im.Pure {
		out = io.MultiWriter(out, &whole)
	}
	if err := im.write(l, file, h, out); err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	d.digest = h.Sum(nil)
	return d, d.ask(whole.Bytes())
}

// write writes all that is signed, and hashes it before it is encrypted.
func (im *Image) write(l layout, file *io.SectionReader, h hash.Hash, out io.Writer) error {
	h.Write(l.header)
	if _, err := out.Write(l.header); err != nil {
		return err
	}
	body := out
	if im.ContentKey != nil {
		block, err := aes.NewCipher(im.ContentKey)
		if err != nil {
			return err
		}
		// The key is of this image alone, so the counter may begin with zero.
		body = cipher.StreamWriter{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), W: out}
	}
	if err := stream.Copy(h, body, io.NewSectionReader(file, l.skip, l.payload), l.payload); err != nil {
		return err
	}
	padding := make([]byte, l.padding)
	h.Write(padding)
	if _, err := body.Write(padding); err != nil {
		return err
	}
	h.Write(l.protected)
	_, err := out.Write(l.protected)
	return err
}

// ask fills in what is to be signed: the digest, which is Ed25519's message,
// or for a pure signature the image.
func (d *draft) ask(whole []byte) error {
	for _, s := range d.signers {
		var want firmwaresign.ToSign
		var err error
		switch {
		case d.im.Pure:
			want, err = firmwaresign.NewToSign(s.alg, s.pub, whole)
		case s.alg == firmwaresign.Ed25519:
			want, err = firmwaresign.NewToSign(s.alg, s.pub, d.digest)
		default:
			want, err = firmwaresign.NewDigestToSign(s.alg, s.pub, d.digest)
		}
		if err != nil {
			return err
		}
		d.want = append(d.want, want)
	}
	return nil
}

func (d *draft) ToSign() []firmwaresign.ToSign { return d.want }

// Finish writes the TLVs that are not signed, and fills the slot.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	a := area{magic: magicTLV}
	a.add(d.hashTLV, d.digest)
	if d.im.Pure {
		a.add(tlvPure, []byte{1})
	}
	for i, s := range d.signers {
		if d.im.FullKeys {
			a.add(tlvPublicKey, s.encoded)
		} else {
			h := s.hash.New()
			h.Write(s.encoded)
			a.add(tlvKeyHash, h.Sum(nil))
		}
		a.add(s.signature, signatures[i])
	}
	if to := d.im.Recipient; to != nil {
		wrapped, err := to.wrap(d.im.ContentKey)
		if err != nil {
			return err
		}
		a.add(wrapped.Type, wrapped.Value)
	}
	tlvs, err := a.bytes()
	if err != nil {
		return err
	}
	if _, err := out.Write(tlvs); err != nil {
		return err
	}
	return d.im.Slot.fill(out, d.size+int64(len(tlvs)), d.im.ContentKey)
}

// trailer is how long the TLVs after the signed part are at most.
func (d *draft) trailer() (n int64) {
	n = 3*tlvLen + 1 + int64(d.signers[0].hash.Size())
	for _, s := range d.signers {
		n += 2*tlvLen + int64(s.longest())
		if d.im.FullKeys {
			n += int64(len(s.encoded))
		} else {
			n += int64(s.hash.Size())
		}
	}
	if d.im.ContentKey != nil {
		n += tlvLen + 65 + 32 + 32 // the longest wrapped key
	}
	return n
}

// longest is how long a key's signature can be.
func (s signer) longest() int {
	switch s.alg {
	case firmwaresign.ECDSAP256SHA256:
		return 72
	case firmwaresign.ECDSAP384SHA384:
		return 104
	case firmwaresign.Ed25519:
		return 64
	}
	return s.pub.(*rsa.PublicKey).Size()
}

var hashTLVs = map[crypto.Hash]uint16{crypto.SHA256: tlvSHA256, crypto.SHA384: tlvSHA384, crypto.SHA512: tlvSHA512}

func (im *Image) signers() ([]signer, error) {
	if len(im.Keys) == 0 {
		return nil, errors.New("an image is signed with one key at least, but none is given")
	}
	var signers []signer
	for i, pub := range im.Keys {
		s, err := im.signer(pub)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(im.Keys), err)
		}
		signers = append(signers, s)
		if s.hash != signers[0].hash {
			return nil, fmt.Errorf("keys 1 and %d need %v and %v: an image has one hash", i+1, signers[0].hash, s.hash)
		}
	}
	return signers, nil
}

func (im *Image) signer(pub crypto.PublicKey) (s signer, err error) {
	s.pub = pub
	if s.alg, err = firmwaresign.AlgorithmFor(pub, true); err != nil {
		return s, err
	}
	if s.encoded, err = x509.MarshalPKIXPublicKey(pub); err != nil {
		return s, err
	}
	s.hash = s.alg.Hash()
	switch key := pub.(type) {
	case *rsa.PublicKey:
		s.encoded = x509.MarshalPKCS1PublicKey(key)
		s.signature = map[int]uint16{2048: tlvRSA2048, 3072: tlvRSA3072}[key.N.BitLen()]
		if s.signature == 0 {
			return s, &firmwaresign.KeyError{Reason: fmt.Sprintf("MCUboot knows no RSA key of %d bits: use 2048 or 3072", key.N.BitLen())}
		}
	default:
		s.signature = tlvECDSA
	}
	if s.alg == firmwaresign.Ed25519 {
		s.signature, s.hash = tlvEd25519, crypto.SHA256
		if im.SHA512 || im.Pure {
			s.hash = crypto.SHA512
		}
	} else if im.SHA512 || im.Pure {
		return s, &firmwaresign.KeyError{Reason: "SHA-512 and pure signatures are for Ed25519 alone"}
	}
	return s, nil
}
