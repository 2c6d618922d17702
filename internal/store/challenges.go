package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// challengeRow is a row of challenges.
type challengeRow struct {
	ID               int64
	Nonce            []byte
	DeviceID         int64
	Operator         string
	Created, Expires int64
	Result           string // "" until it was answered

	leaf int64
}

const challengeColumns = `ch.id, ch.nonce, ch.device_id, ch.operator, ch.created, ch.expires, ch.result, ch.leaf`

func (c *challengeRow) dest() []any {
	return []any{&c.ID, &c.Nonce, &c.DeviceID, &c.Operator, &c.Created, &c.Expires, &c.Result, &c.leaf}
}

func (c *challengeRow) object() audit.Object {
	return audit.Object{Kind: audit.KindChallenge, ID: c.ID, Digest: audit.DigestOf(c)}
}

func (c *challengeRow) challenge() (*vetting.Challenge, error) {
	out := &vetting.Challenge{ID: c.ID, DeviceID: c.DeviceID, By: c.Operator, Created: fromMicros(c.Created), Expires: fromMicros(c.Expires), Leaf: c.leaf}
	copy(out.Nonce[:], c.Nonce)
	if c.Result == "" {
		return out, nil
	}
	out.Result = new(vetting.ProofResult)
	if err := json.Unmarshal([]byte(c.Result), out.Result); err != nil {
		return nil, fmt.Errorf("challenge %d in the database: %w", c.ID, err)
	}
	return out, nil
}

func (s *Store) challenges(ctx context.Context, where string, args ...any) ([]*vetting.Challenge, error) {
	return readAll(ctx, s.db, `SELECT `+challengeColumns+` FROM challenges ch WHERE `+where, args, (*challengeRow).dest, (*challengeRow).challenge)
}

// Challenge returns a challenge by ID, or a NotFound error.
func (s *Store) Challenge(ctx context.Context, id int64) (*vetting.Challenge, error) {
	list, err := s.challenges(ctx, `ch.id = $1`, id)
	return theOne(list, err, "challenge", id)
}

const (
	// maxOpenChallenges bounds the open challenges to one device.
	maxOpenChallenges = 16
	// expiredChallenges are kept so long, that a late answer is told from one
	// to nothing.
	expiredChallenges = 24 * time.Hour
)

// CreateChallenge makes a challenge to a device that has a certificate;
// otherwise, or if very many are open, it is a Conflict. It leaves nothing in
// the log before it is answered.
func (s *Store) CreateChallenge(ctx context.Context, a access.Act, device int64, lifetime time.Duration) (*vetting.Challenge, error) {
	d, err := s.Device(ctx, device)
	if err != nil {
		return nil, err
	}
	if d.CertificateID == 0 {
		return nil, vetting.Errorf(vetting.Conflict, "device %d (%s) is %s and has no official key to prove", d.ID, d.Identity, d.State)
	}
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		w.exec(`DELETE FROM challenges WHERE result = '' AND expires < $1`, micros(w.now.Add(-expiredChallenges)))
		open := 0
		w.fetch(`SELECT id FROM challenges WHERE device_id = $1 AND result = '' AND expires > $2 LIMIT 16`, []any{device, micros(w.now)}, func(row) error { open++; return nil })
		if err := w.flush(); err != nil {
			return 0, err
		}
		if open >= maxOpenChallenges {
			return 0, vetting.Errorf(vetting.Conflict, "%d challenges to device %d wait for an answer already: have one of them answered, or wait until they expire", open, device)
		}
		nonce := newNonce()
		id := w.ids(1)
		w.insert(`challenges (id, nonce, device_id, operator, created, expires, result, leaf)`,
			id, nonce[:], device, a.Operator, micros(w.now), micros(w.now.Add(lifetime)), "", 0)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Challenge(ctx, id)
}

// newNonce makes a nonce that commands do not take for a flag.
func newNonce() (n vetting.Nonce) {
	for rand.Read(n[:]); n.String()[0] == '-'; rand.Read(n[:]) {
	}
	return n
}

// AnswerChallenge judges a signature, which somebody passes on, and keeps what
// it came to. A challenge that was answered or expired is a Conflict. With
// certificate, a serial number in hex, the answer names whose key made it; if
// there is none of that number, it is Invalid. "" tries the device's own.
func (s *Store) AnswerChallenge(ctx context.Context, a access.Act, id int64, certificate string, signature []byte) (*vetting.Challenge, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		c, err := w.openChallenge(`ch.id = $1`, id, fmt.Sprint("challenge ", id))
		if err != nil {
			return 0, err
		}
		f := vetting.AnswerFacts{How: vetting.BySignature, Signature: signature}
		if f.Named, err = w.named(certificate); err != nil {
			return 0, err
		}
		return id, w.answerChallenge(operatorOf(a), c, f)
	})
	if err != nil {
		return nil, err
	}
	return s.Challenge(ctx, id)
}

// AnswerByTLS is the same for a device that came itself and has proved in the
// handshake that it holds a certificate's key. Doing so again is no second
// answer.
func (s *Store) AnswerByTLS(ctx context.Context, nonce vetting.Nonce, certificate string) (*vetting.Challenge, error) {
	id := int64(0)
	err := s.update(ctx, func(w *writing) error {
		c, err := w.challengeWhere(`ch.nonce = $1`, nonce[:], "such challenge")
		if err != nil {
			return err
		}
		id = c.ID
		if out, err := c.challenge(); err != nil || out.Result != nil && out.Result.How == vetting.ByTLS && out.Result.Certificate == certificate {
			return err
		}
		if err := w.stillOpen(c); err != nil {
			return err
		}
		named, err := w.named(certificate)
		if err != nil {
			return err
		}
		return w.answerChallenge("certificate:"+certificate, c, vetting.AnswerFacts{How: vetting.ByTLS, Named: named})
	})
	if err != nil {
		return nil, err
	}
	return s.Challenge(ctx, id)
}

func (w *writing) challengeWhere(where string, arg any, what string) (*challengeRow, error) {
	c := new(challengeRow)
	w.fetch(`SELECT `+challengeColumns+` FROM challenges ch WHERE `+where, []any{arg}, func(r row) error { return r.Scan(c.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if c.ID == 0 {
		return nil, vetting.Errorf(vetting.NotFound, "there is no %s; those that were not answered are forgotten a day after they expire", what)
	}
	return c, nil
}

func (w *writing) openChallenge(where string, arg any, what string) (*challengeRow, error) {
	c, err := w.challengeWhere(where, arg, what)
	if err != nil {
		return nil, err
	}
	return c, w.stillOpen(c)
}

func (w *writing) stillOpen(c *challengeRow) error {
	switch {
	case c.Result != "":
		return vetting.Errorf(vetting.Conflict, "challenge %d was answered already: make another", c.ID)
	case micros(w.now) >= c.Expires:
		return vetting.Errorf(vetting.Conflict, "challenge %d expired at %s: make another", c.ID, fromMicros(c.Expires).Format(time.RFC3339))
	}
	return nil
}

// named finds the certificate that an answer names; nil for "".
func (w *writing) named(serial string) (*vetting.Certificate, error) {
	if serial == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(serial)
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%q is not a certificate serial number in hexadecimal", serial)
	}
	list, err := w.certificatesWhere(`c.serial = $1`, b)
	if err == nil && len(list) == 0 {
		err = vetting.Errorf(vetting.Invalid, "no certificate has the serial number %s, which the answer names", serial)
	}
	if err != nil {
		return nil, err
	}
	return list[0].certificate(), nil
}

func (w *writing) certificatesWhere(where string, arg any) (list []*certificateRow, err error) {
	w.fetch(certificateQuery+`WHERE `+where, []any{arg}, func(r row) error {
		c := new(certificateRow)
		list = append(list, c)
		return r.Scan(c.dest()...)
	})
	return list, w.flush()
}

// answerChallenge judges an answer, which is tried with the newest few of the
// device's keys if it names none, and writes what it came to. A proof is an
// authenticated use of the key.
func (w *writing) answerChallenge(by string, c *challengeRow, f vetting.AnswerFacts) (err error) {
	w.loadDevice(c.DeviceID)
	if err := w.read(); err != nil {
		return err
	}
	current := w.devices[c.DeviceID].CertificateID
	own, err := w.certificatesWhere(`c.device_id = $1 ORDER BY c.id DESC LIMIT 4`, c.DeviceID)
	if err != nil {
		return err
	}
	f.Now = w.now
	for _, cert := range own {
		if cert.ID == current {
			f.Own = append([]*vetting.Certificate{cert.certificate()}, f.Own...)
		} else {
			f.Own = append(f.Own, cert.certificate())
		}
	}
	if f.Challenge, err = c.challenge(); err != nil {
		return err
	}
	result, evidence := vetting.JudgeAnswer(f)
	c.Result = mustJSON(result)
	leaf := w.leaf("challenge."+string(result.Outcome), by, string(result.Reason), c.object())
	w.exec(`UPDATE challenges SET result = $2, leaf = $3 WHERE id = $1`, c.ID, c.Result, leaf)
	if err := w.recordEvidence(by, evidence); err != nil {
		return err
	}
	if current == 0 || result.Outcome != vetting.Proved {
		return nil
	}
	w.loadCertificate(current)
	if err := w.read(); err != nil {
		return err
	}
	return w.activate(w.certificates[current])
}
