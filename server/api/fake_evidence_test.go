package api_test

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func (m *memory) Evidence(_ context.Context, f vetting.EvidenceFilter, p vetting.Page) ([]*vetting.Evidence, error) {
	return pick(m, m.evidence, p, true, func(e *vetting.Evidence) int64 { return e.ID }, func(e *vetting.Evidence) bool {
		site, owner := "", ""
		for _, d := range m.devices {
			if d.ID == e.DeviceID {
				site, owner = d.Site, d.Owner
			}
		}
		return fits(f.Site, site) && fits(f.Owner, owner) && fits(f.Kind, e.Kind) && fits(f.DeviceID, e.DeviceID) && !(f.Open && e.Cleared != nil)
	})
}

func (m *memory) Subjects(_ context.Context, q vetting.SubjectQuery) (list []*vetting.Subject, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	for _, d := range m.devices {
		s := &vetting.Subject{Device: *d, Bootstrap: !q.Bootstrap.IsZero() && q.Bootstrap == d.BootstrapKey}
		for _, c := range m.certificates {
			if c.DeviceID == d.ID && c.Serial == q.Certificate {
				s.Shown, s.ShownDigest = c, sha256.Sum256(c.DER)
			}
		}
		for _, e := range m.evidence {
			if e.DeviceID == d.ID && e.Cleared == nil {
				s.Evidence = append(s.Evidence, e)
			}
		}
		if s.Shown != nil || q.Serial != "" && q.Serial == d.Serial || q.MAC != "" && q.MAC == d.MAC || q.UID != "" && q.UID == d.UID || s.Bootstrap {
			list = append(list, s)
		}
	}
	return list, nil
}

func (m *memory) Observe(_ context.Context, _ access.Act, _ vetting.ObservationRules, list []vetting.Observation) (*vetting.Observed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observed = append(m.observed, list...)
	return &vetting.Observed{Taken: len(list)}, m.fail
}

func (m *memory) Challenge(_ context.Context, id int64) (*vetting.Challenge, error) {
	return find(m, m.challenges, func(c *vetting.Challenge) bool { return c.ID == id })
}

func (m *memory) CreateChallenge(_ context.Context, a access.Act, device int64, lifetime time.Duration) (*vetting.Challenge, error) {
	return act(m, a, func() (*vetting.Challenge, error) {
		c := &vetting.Challenge{ID: m.next(), DeviceID: device, By: a.Operator, Created: today, Expires: today.Add(lifetime)}
		m.challenges = append(m.challenges, c)
		return c, nil
	})
}

func (m *memory) AnswerChallenge(_ context.Context, a access.Act, id int64, certificate string, signature []byte) (*vetting.Challenge, error) {
	return act(m, a, func() (*vetting.Challenge, error) {
		for _, c := range m.challenges {
			if c.ID == id {
				next := *c
				next.Result = &vetting.ProofResult{Outcome: vetting.ProofFailed, How: vetting.BySignature, Certificate: certificate, Text: string(signature)}
				return &next, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no challenge")
	})
}

func (m *memory) RecordEvidence(_ context.Context, _ access.Act, list []vetting.Evidence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range list {
		e.ID = m.next()
		m.evidence = append(m.evidence, &e)
	}
	return m.fail
}

func (m *memory) setCleared(a access.Act, id int64, c *vetting.Clearing) (*vetting.Evidence, error) {
	return act(m, a, func() (*vetting.Evidence, error) {
		for i, e := range m.evidence {
			if e.ID == id {
				next := *e
				next.Cleared = c
				m.evidence[i] = &next
				return &next, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "there is no evidence %d", id)
	})
}

func (m *memory) ClearEvidence(_ context.Context, a access.Act, id int64, note string) (*vetting.Evidence, error) {
	return m.setCleared(a, id, &vetting.Clearing{By: a.Operator, At: today, Note: note})
}

func (m *memory) ReopenEvidence(_ context.Context, a access.Act, id int64, _ string) (*vetting.Evidence, error) {
	return m.setCleared(a, id, nil)
}

func (m *memory) ClearDeviceEvidence(ctx context.Context, a access.Act, device int64, note string) (list []*vetting.Evidence, err error) {
	if _, err := m.Device(ctx, device); err != nil {
		return nil, vetting.Errorf(vetting.NotFound, "there is no device %d", device)
	}
	for _, e := range m.evidence {
		if e.DeviceID == device && err == nil {
			e, err = m.setCleared(a, e.ID, &vetting.Clearing{By: a.Operator, At: today, Note: note})
			list = append(list, e)
		}
	}
	return list, err
}
