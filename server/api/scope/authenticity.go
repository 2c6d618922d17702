package scope

import (
	"context"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Inspect looks up what an inspection is about, and tells what it came to.
// Devices of other sites, or owners, look unknown. What it brings up by itself is kept as
// evidence, whoever asked.
func (v View) Inspect(ctx context.Context, act access.Act, i vetting.Inspection) (*vetting.Finding, error) {
	all, err := v.store.Subjects(ctx, i.Query())
	if err != nil {
		return nil, err
	}
	i.Kept = slices.ContainsFunc(all, func(s *vetting.Subject) bool { return s.Shown != nil })
	i.Subjects = slices.DeleteFunc(all, func(s *vetting.Subject) bool { return !v.seesDevice(&s.Device) })
	f := vetting.Inspect(i)
	if len(f.Evidence) > 0 {
		if err := v.store.RecordEvidence(ctx, act, f.Evidence); err != nil {
			return nil, err
		}
	}
	if f.Subject != nil {
		s := *f.Subject
		v.maskDevice(&s.Device)
		s.Evidence = each(s.Evidence, v.maskEvidence)
		s.Proof = mask(v, s.Proof, maskChallenge)
		f.Subject = &s
	}
	return &f, nil
}

// Observe keeps what a broker saw. It is not a site's or owner's to say, and tells
// nothing of devices but how many were unknown.
func (v View) Observe(ctx context.Context, act access.Act, rules vetting.ObservationRules, list []vetting.Observation) (*vetting.Observed, error) {
	unknown := vetting.Errorf(vetting.NotFound, "operator %q does not observe devices", v.op.Name)
	return ofManufacturer(v, unknown, func() (*vetting.Observed, error) { return v.store.Observe(ctx, act, rules, list) })
}

// Challenge finds a challenge to a device that the operator sees.
func (v View) Challenge(ctx context.Context, id int64) (*vetting.Challenge, error) {
	c, err := v.store.Challenge(ctx, id)
	if err == nil {
		_, err = v.Device(ctx, c.DeviceID)
	}
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, unknownID("challenge", id)
	}
	if err != nil {
		return nil, err
	}
	return mask(v, c, maskChallenge), nil
}

// CreateChallenge challenges a device.
func (v View) CreateChallenge(ctx context.Context, act access.Act, device int64, lifetime time.Duration) (*vetting.Challenge, error) {
	if _, err := v.Device(ctx, device); err != nil {
		return nil, err
	}
	c, err := v.store.CreateChallenge(ctx, act, device, lifetime)
	return mask(v, c, maskChallenge), err
}

// AnswerChallenge passes a device's signature on.
func (v View) AnswerChallenge(ctx context.Context, act access.Act, id int64, certificate string, signature []byte) (*vetting.Challenge, error) {
	if _, err := v.Challenge(ctx, id); err != nil {
		return nil, err
	}
	c, err := v.store.AnswerChallenge(ctx, act, id, certificate, signature)
	return mask(v, c, maskChallenge), err
}

// Evidence lists evidence.
func (v View) Evidence(ctx context.Context, f vetting.EvidenceFilter, p vetting.Page) ([]*vetting.Evidence, error) {
	if !v.holder(&f.Site, &f.Owner) {
		return nil, nil
	}
	list, err := v.store.Evidence(ctx, f, p)
	return each(list, v.maskEvidence), err
}

// ClearEvidence keeps a person's word that evidence was a false alarm. It is
// not a site's or owner's to say.
func (v View) ClearEvidence(ctx context.Context, act access.Act, id int64, note string) (*vetting.Evidence, error) {
	return ofManufacturer(v, unknownID("evidence", id), func() (*vetting.Evidence, error) { return v.store.ClearEvidence(ctx, act, id, note) })
}

// ReopenEvidence takes a clearing back.
func (v View) ReopenEvidence(ctx context.Context, act access.Act, id int64, note string) (*vetting.Evidence, error) {
	return ofManufacturer(v, unknownID("evidence", id), func() (*vetting.Evidence, error) { return v.store.ReopenEvidence(ctx, act, id, note) })
}

// ClearDeviceEvidence clears everything that is open against a device.
func (v View) ClearDeviceEvidence(ctx context.Context, act access.Act, device int64, note string) ([]*vetting.Evidence, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, unknownID("device", device)
	}
	return v.store.ClearDeviceEvidence(ctx, act, device, note)
}
