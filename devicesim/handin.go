package devicesim

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"time"
)

// Manifest is what the server says of one that was handed in.
type Manifest struct {
	ID                                         int64
	State                                      string
	Records, Loaded, Fresh, Repeated, Disputed int64
}

// HandIn signs a manifest, uploads it for an order and waits until its
// records are in place.
func (o *Operator) HandIn(ctx context.Context, order string, manifest []byte) (m Manifest, err error) {
	signature, err := Sign(manifest, o.Cert, o.Key)
	if err != nil {
		return m, err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, part := range []struct {
		name, kind string
		data       []byte
	}{{"manifest", "application/jsonl", manifest}, {"signature", "application/pkcs7-signature", signature}} {
		w, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%s"`, part.name, part.name)},
			"Content-Type":        {part.kind}})
		if err != nil {
			return m, err
		}
		if _, err := w.Write(part.data); err != nil {
			return m, err
		}
	}
	if err := form.Close(); err != nil {
		return m, err
	}
	if err := o.send(ctx, http.MethodPost, "/api/v1/orders/"+order+"/manifests", form.FormDataContentType(), &body, &m); err != nil {
		return m, err
	}
	for m.State == "accepted" {
		wait(ctx, 50*time.Millisecond)
		if err := o.Do(ctx, http.MethodGet, fmt.Sprintf("/manifests/%d", m.ID), nil, &m); err != nil {
			return m, err
		}
	}
	return m, nil
}
