package attest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Request makes a request for a certificate of a second message and its
// PKCS#10. Of the claim, what the way of the message told is given; what the
// TPM proved is added. If that was an official certificate, it is a renewal by
// that, on a key that the TPM attests. That something is untrue is part of the
// claim, for vetting to judge. The errors are *enroll.RequestErrors, a
// *enroll.ProofError, or of the makers' book.
func (a *Attestor) Request(ctx context.Context, p *Proof, der []byte, c vetting.Claim) (enroll.Request, error) {
	ek, ak, err := p.parse()
	if err != nil {
		return enroll.Request{}, err
	}
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		return enroll.Request{}, err
	}
	if c.Asserted, err = (vetting.Identity{Serial: p.Serial}).Normalize(); err != nil {
		return enroll.Request{}, enroll.BadRequest("%v", err)
	}
	if err := a.checkAnswer(p, ek, ak); err != nil {
		return enroll.Request{}, err
	}
	c.At, c.Key, c.Subject = a.Now(), vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), csr.RawSubject
	if c.TPM, err = ak.state(p, ek, c.Key); err != nil {
		return enroll.Request{}, err
	}
	if c.Auth.Proof == vetting.ProofOfficial {
		c.TPM.EK, c.Asserted = ek.print, vetting.Identity{}
		c.TPM.Manufacturer, c.TPM.Model, c.TPM.Version = "", "", "" // no maker is asked about the EK that the device has
		return enroll.Request{CSR: csr, Claim: c}, nil
	}
	c.Auth = vetting.Auth{Proof: vetting.ProofTPM, Key: ek.print}
	c.Vendors, err = a.makers(ctx, ek)
	return enroll.Request{CSR: csr, Claim: c}, err
}

// state is what a TPM says of itself and of the key to be certified.
func (ak *attestationKey) state(p *Proof, ek *endorsement, certified vetting.Fingerprint) (*vetting.TPM, error) {
	tpm := ek.names
	tpm.AK = hex.EncodeToString(ak.name)
	err := ak.statements(p, certified, &tpm)
	if reason, ok := isUntrue(err); ok {
		return &vetting.TPM{AK: tpm.AK, Manufacturer: tpm.Manufacturer, Model: tpm.Model, Version: tpm.Version, Untrue: reason}, nil
	}
	return &tpm, err
}

func (ak *attestationKey) statements(p *Proof, certified vetting.Fingerprint, tpm *vetting.TPM) error {
	key, err := parsePublic("key.public", p.Key.Public)
	if err != nil {
		return err
	}
	if key.print != certified {
		return untrue("key.public is another key than the certificate request's")
	}
	n := nonce(p.Answer)
	said, err := ak.checkKey(key, p.Key, n)
	if err != nil {
		return err
	}
	tpm.Firmware = fmt.Sprintf("%016x", said.FirmwareVersion)
	tpm.PCRs, err = ak.checkQuote(p.Quote, n)
	return err
}

// makers are those whose EK certificate it is, by product; none without a
// certificate, or with one that no product trusts.
func (a *Attestor) makers(ctx context.Context, ek *endorsement) ([]vetting.VendorMatch, error) {
	if len(ek.chain) == 0 {
		return nil, nil
	}
	list, err := a.Makers.Matches(ctx, ek.chain)
	var rejection *vendorid.Rejection
	if errors.As(err, &rejection) {
		return nil, nil // vetting says so, where the product wants one
	}
	return list, err
}
