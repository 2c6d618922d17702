package devicesim

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/touchmark/touchmark/device"
)

// status asks the OCSP responder that certificates name about some of them,
// as whoever meets a device would.
func (l *later) status(ctx context.Context) error {
	good, err := l.renewing[0].Store.Load(device.Official)
	if err != nil {
		return err
	}
	if len(good.Leaf().OCSPServer) == 0 {
		return errors.New("the certificates name no OCSP responder: set status.url in the server's configuration")
	}
	issuer := good.Chain[1]
	copied, err := l.copied.Store.Load(device.Official)
	if err != nil {
		return err
	}
	batch, err := l.revoked[0].Store.Load(device.Official)
	if err != nil {
		return err
	}
	forged := *good.Leaf()
	forged.SerialNumber = new(big.Int).Add(forged.SerialNumber, big.NewInt(1))
	for _, q := range []struct {
		what string
		cert *x509.Certificate
		want func(*ocsp.Response) bool
	}{
		{"a device in service, " + l.renewing[0].Serial, good.Leaf(), func(a *ocsp.Response) bool { return a.Status == ocsp.Good }},
		{"the one that was copied, " + l.copied.Serial, copied.Leaf(), revokedFor(ocsp.CertificateHold)},
		{"one of the batch, " + l.revoked[0].Serial, batch.Leaf(), revokedFor(ocsp.KeyCompromise)},
		{"a forged serial number, one higher", &forged, func(a *ocsp.Response) bool {
			return revokedFor(ocsp.CertificateHold)(a) && a.RevokedAt.Equal(time.Unix(0, 0))
		}},
	} {
		answer, err := l.askStatus(ctx, good.Leaf().OCSPServer[0], q.cert, issuer)
		for n := 0; err == nil && !q.want(answer) && n < 20; n++ { // the responder follows within a moment
			wait(ctx, 100*time.Millisecond)
			answer, err = l.askStatus(ctx, good.Leaf().OCSPServer[0], q.cert, issuer)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		l.expect(q.want(answer), "%-38s %s", q.what, statusText(answer))
	}
	return nil
}

func revokedFor(reason int) func(*ocsp.Response) bool {
	return func(a *ocsp.Response) bool { return a.Status == ocsp.Revoked && a.RevocationReason == reason }
}

func statusText(a *ocsp.Response) string {
	switch {
	case a.Status == ocsp.Good:
		return fmt.Sprintf("good         This counts until %s.", a.NextUpdate.UTC().Format(time.RFC3339))
	case a.Status == ocsp.Unknown:
		return "unknown"
	case a.RevokedAt.Equal(time.Unix(0, 0)):
		return "never issued On hold since 1970: the responder knows that no such certificate was issued (RFC 6960 §2.2)."
	case a.RevocationReason == ocsp.CertificateHold:
		return fmt.Sprintf("on hold      since %s", a.RevokedAt.UTC().Format(time.RFC3339))
	default:
		return fmt.Sprintf("revoked      since %s, for reason %d of RFC 5280 §5.3.1", a.RevokedAt.UTC().Format(time.RFC3339), a.RevocationReason)
	}
}

// maxStatus is much more than an answer about one certificate takes.
const maxStatus = 64 << 10

// askStatus asks an OCSP responder about one certificate, and holds the
// answer to its issuer.
func (l *later) askStatus(ctx context.Context, url string, cert, issuer *x509.Certificate) (*ocsp.Response, error) {
	body, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxStatus))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the OCSP responder answered %s", response.Status)
	}
	return ocsp.ParseResponseForCert(answer, cert, issuer)
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
