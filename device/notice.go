package device

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

// What a notice tells.
const (
	NoticeRenew   = "renew-now"     // renew now, and not when it is due
	NoticeRevoked = "revoked"       // the certificate does not count any more
	NoticeOwner   = "owner-changed" // another owner: a renewal makes the device the new one's
)

// ErrRevoked says that the server told the device that its certificate was
// revoked.
var ErrRevoked = errors.New("the server says that the certificate was revoked")

// Notice is what the server tells a device unasked. It is a hint: it may come
// twice, or not at all.
type Notice struct {
	Event  string
	Time   time.Time
	Notice string // one of the words above, or one that this device does not know
	Serial string // the device's
	// Certificate is the serial number of the certificate that it is about, in
	// hexadecimal.
	Certificate string
}

// about reports whether a notice is one that the device knows, on the
// certificate that it has now.
func (n Notice) about(c *Credential) bool {
	known := n.Notice == NoticeRenew || n.Notice == NoticeRevoked || n.Notice == NoticeOwner
	return known && n.Certificate == hex.EncodeToString(c.Leaf().SerialNumber.Bytes())
}

// parseNotice reads the message of a notice, which a server below one of the
// roots signed.
func parseNotice(message []byte, roots *x509.CertPool, now time.Time) (Notice, error) {
	var n Notice
	content, err := openMessage(message, roots, now)
	if err == nil {
		err = json.Unmarshal(content, &n)
	}
	if err == nil && (n.Notice == "" || n.Certificate == "") {
		err = errors.New("it says neither what happened nor to which certificate")
	}
	if err != nil {
		return Notice{}, &ReplyError{"notice", err}
	}
	return n, nil
}

// pulse is half of what the broker waits for a sign of life.
const pulse = keepAlive * time.Second / 2

// Listen is connected with the official credential until ctx ends or the line
// breaks, and hands on each notice that comes and that the server signed. It
// calls ready once it would hear one. It returns why it ended, never nil.
func (c *MQTTClient) Listen(ctx context.Context, by *Credential, ready func(), heard func(Notice)) error {
	const op = "notices"
	conn, err := c.dial(ctx, op, by)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	p := &packets{conn: conn, in: bufio.NewReader(conn), client: "notices", idle: 2 * pulse}
	if err := p.subscribe(branchOf(by) + "/notice"); err != nil {
		return &LineError{op, err}
	}
	ready()
	stop := p.keepAlive()
	defer stop()
	for {
		message, err := p.message()
		if err != nil {
			return &LineError{op, err}
		}
		if n, err := parseNotice(message, c.Roots, c.now()); err == nil {
			heard(n)
		}
	}
}

// keepAlive sends signs of life (§3.12) until it is stopped. A line on which
// none comes back ends by its deadline.
func (p *packets) keepAlive() (stop func()) {
	beat, done := time.NewTicker(pulse), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-beat.C:
				_ = p.write(packetPing)
			}
		}
	}()
	return func() { beat.Stop(); close(done) }
}
