package tpm_test

import (
	"encoding/asn1"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

func der(s *tpm2.TPMSSignatureECC) []byte {
	b, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
	return b
}
