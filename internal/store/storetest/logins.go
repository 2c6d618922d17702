package storetest

import (
	"crypto/sha256"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var loginCases = []conformance{
	{"a workload logs in, each token once", workloadLogsIn},
	{"a workload is revoked", workloadRevoked},
}

var ciTrust = &access.Trust{Issuer: "https://gitlab.acme.example", Audience: "touchmark", Claims: map[string]string{"project_path": "firmware/lamp"}}

func (t *trial) workload(name string) *access.Operator {
	t.Helper()
	return ok(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: name, Role: access.RoleReleaseEngineer, Trust: ciTrust}))(t)
}

// login is what a token gives, and a key.
func login(name, token string, key byte) access.Login {
	return access.Login{Operator: name, Token: sha256.Sum256([]byte(token)), Key: Key(name, int(key)), Subject: "project_path:firmware/lamp", NotAfter: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)}
}

func workloadLogsIn(t *trial) {
	t.operator("anna", access.RoleAdmin, "")
	ci := t.workload("lamp-ci")
	if ci.Trust == nil || ci.Trust.Claims["project_path"] != "firmware/lamp" || !ci.Key.IsZero() {
		t.Errorf("the workload is %+v", ci)
	}
	same(t, "by name", ok(t.second().Operator(t.ctx, "lamp-ci"))(t), ci)
	t.refuses(vetting.NotFound)(t.store.OperatorByKey(t.ctx, access.WorkloadKey("lamp-ci")))
	leaf := t.leaves()
	first := login("lamp-ci", "1", 1)
	same(t, "logged in", ok(t.store.LogIn(t.ctx, first))(t), ci)
	if l := t.leaf(leaf); l.Act != "operator.login" || l.By != "operator:lamp-ci" || l.Note != "project_path:firmware/lamp, "+first.Key.String() {
		t.Errorf("the leaf is %+v", l)
	}
	for _, s := range []*store.Store{t.store, t.second()} {
		for range 2 { // the second time it is remembered
			op := ok(s.OperatorByKey(t.ctx, first.Key))(t)
			if op.Name != "lamp-ci" || op.Key != first.Key || op.Trust == nil || op.May(access.Approve) {
				t.Errorf("by key: %+v", op)
			}
		}
	}
	ok(t.store.LogIn(t.ctx, first))(t) // after an answer that was lost
	ok(t.store.LogIn(t.ctx, login("lamp-ci", "2", 2)))(t)
	ok(t.store.OperatorByKey(t.ctx, first.Key))(t) // two builds at once

	other := t.workload("other-ci")
	t.refuses(vetting.Conflict)(t.second().LogIn(t.ctx, login("lamp-ci", "1", 3)))
	t.refuses(vetting.Conflict)(t.store.LogIn(t.ctx, access.Login{Operator: other.Name, Token: first.Token, Key: first.Key}))
	t.refuses(vetting.Exists)(t.store.LogIn(t.ctx, access.Login{Operator: other.Name, Token: sha256.Sum256([]byte("3")), Key: first.Key}))
	t.refuses(vetting.Exists)(t.store.LogIn(t.ctx, access.Login{Operator: other.Name, Token: sha256.Sum256([]byte("3")), Key: Key("anna", 0)}))
	t.refuses(vetting.Exists)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "thief", Role: access.RoleAdmin, Key: first.Key}))
	t.refuses(vetting.Exists)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "lamp-ci", Role: access.RoleAuditor, Trust: ciTrust}))
	t.refuses(vetting.Conflict)(t.store.LogIn(t.ctx, login("anna", "4", 9)))
	t.refuses(vetting.NotFound)(t.store.LogIn(t.ctx, login("nobody", "4", 9)))
	t.refuses(vetting.Conflict)(t.store.RenewOperator(t.ctx, as("lamp-ci"), &access.Operator{Name: "lamp-ci", Key: first.Key}))
	Verify(t, t.store)
}

func workloadRevoked(t *trial) {
	t.workload("lamp-ci")
	first := login("lamp-ci", "1", 1)
	ok(t.store.LogIn(t.ctx, first))(t)
	ok(t.store.OperatorByKey(t.ctx, first.Key))(t)
	ok(t.store.RevokeOperator(t.ctx, By, "lamp-ci"))(t)
	if op := ok(t.store.OperatorByKey(t.ctx, first.Key))(t); op.Revoked.IsZero() || op.May(access.SignFirmware) {
		t.Errorf("its key still counts: %+v", op)
	}
	t.refuses(vetting.Conflict)(t.store.LogIn(t.ctx, first))
	t.refuses(vetting.Conflict)(t.store.LogIn(t.ctx, login("lamp-ci", "2", 2)))
	Verify(t, t.store)
}
