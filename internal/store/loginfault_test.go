package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A login whose commit failed can be made again with the same key; the token
// is used up for others if it had been kept all the same.
func TestLoginFails(t *testing.T) {
	ctx := context.Background()
	login := func(key int) access.Login {
		return access.Login{Operator: "ci", Token: [32]byte{1}, Key: storetest.Key("ci", key), Subject: "lamp", NotAfter: time.Now().Add(time.Hour)}
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		trust := &access.Trust{Issuer: "https://ci.example", Audience: "touchmark", Claims: map[string]string{"project": "lamp"}}
		must[*access.Operator](t)(w.Store.CreateOperator(ctx, storetest.By, &access.Operator{Name: "ci", Role: access.RoleReleaseEngineer, Trust: trust}))
	}, func(t *testing.T, w *storetest.World, fault string) {
		if _, err := w.Store.LogIn(ctx, login(1)); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		_, err := w.Store.OperatorByKey(ctx, login(1).Key)
		if kept := fault == "persisted anyway"; kept != (err == nil) {
			t.Errorf("its key: %v", err)
		}
		must[*access.Operator](t)(w.Store.LogIn(ctx, login(1)))
		if _, err := w.Store.LogIn(ctx, login(2)); vetting.ProblemOf(err) != vetting.Conflict {
			t.Errorf("the token was taken twice: %v", err)
		}
	})
}
