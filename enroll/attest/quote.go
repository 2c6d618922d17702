package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// checkQuote checks the AK's word on registers (TPM2_Quote, Part 3, 18.4), and
// gives their values in hex, by number.
func (ak *attestationKey) checkQuote(q *Quote, nonce []byte) (map[string]string, error) {
	if q == nil {
		return nil, nil
	}
	numbers, values, err := registers(q.PCRs)
	if err != nil {
		return nil, err
	}
	said, err := ak.verify("quote.attestation", q.Attestation, q.Signature, tpm2.TPMSTAttestQuote)
	if err != nil {
		return nil, err
	}
	info, err := said.Attested.Quote()
	if err != nil {
		return nil, enroll.BadRequest("quote.attestation: %v", err)
	}
	chosen, err := selected(info)
	if err != nil {
		return nil, err
	}
	hash, err := ak.hashes.Hash()
	if err != nil {
		return nil, enroll.BadRequest("quote.attestation: %v", err)
	}
	h := hash.New()
	h.Write(values)
	switch {
	case !bytes.Equal(said.ExtraData.Buffer, nonce):
		return nil, untrue("quote.attestation was made for another nonce")
	case !slices.Equal(chosen, numbers):
		return nil, untrue("quote.attestation is about the registers %v, and quote.pcrs has %v", chosen, numbers)
	case !bytes.Equal(info.PCRDigest.Buffer, h.Sum(nil)):
		return nil, untrue("quote.attestation is about other values of the registers than quote.pcrs")
	}
	text := map[string]string{}
	for _, n := range numbers {
		text[strconv.Itoa(n)] = hex.EncodeToString(q.PCRs[n])
	}
	return text, nil
}

// registers gives the numbers of registers in their order, and their values
// one after the other.
func registers(pcrs map[int][]byte) (numbers []int, values []byte, err error) {
	for n, value := range pcrs {
		if n < 0 || n >= vetting.MostPCRs || len(value) != sha256.Size {
			return nil, nil, enroll.BadRequest("quote.pcrs: register %d has %d bytes: want registers 0 to %d of the SHA-256 bank, 32 bytes each", n, len(value), vetting.MostPCRs-1)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		values = append(values, pcrs[n]...)
	}
	return numbers, values, nil
}

// selected gives the numbers of the registers that a quote is about.
func selected(info *tpm2.TPMSQuoteInfo) (numbers []int, err error) {
	list := info.PCRSelect.PCRSelections
	if len(list) != 1 || list[0].Hash != tpm2.TPMAlgSHA256 {
		return nil, enroll.BadRequest("quote.attestation: select registers of the SHA-256 bank, and of no other")
	}
	for i, bits := range list[0].PCRSelect {
		for bit := range 8 {
			if bits>>bit&1 == 1 {
				numbers = append(numbers, 8*i+bit)
			}
		}
	}
	return numbers, nil
}
