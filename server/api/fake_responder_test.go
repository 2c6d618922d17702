package api_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// delegate stands for the server's responders.
type delegate struct {
	der  []byte
	told []string
}

func (d *delegate) CertifyResponder(_ context.Context, act access.Act, issuer string, key crypto.PublicKey) ([]byte, error) {
	if _, ok := key.(*ecdsa.PublicKey); !ok || issuer != "acme-ca" {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %q", issuer)
	}
	d.told = append(d.told, act.Operator+" answers for "+issuer)
	return d.der, nil
}

func (d *delegate) ReportForgeries(_ context.Context, act access.Act, issuer string, serials [][]byte, more int64) (int, error) {
	d.told = append(d.told, fmt.Sprintf("%s met %x of %s and %d", act.Operator, serials, issuer, more))
	return len(serials), nil
}
