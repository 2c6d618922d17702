package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

func verify(t *testing.T, s *store.Store) {
	t.Helper()
	storetest.Verify(t, s)
}

var faults = map[string]int32{"lost": store.Lost, "persisted anyway": store.Persisted, "a statement fails": store.StatementFails, "a defect": store.Panics}

// eachFault runs a test on a store of each kind for each fault, and then
// again on the same database without faults, as after a restart.
func eachFault(t *testing.T, act, check func(t *testing.T, w *storetest.World, fault string)) {
	eachFaultAfter(t, func(*testing.T, *storetest.World) {}, act, check)
}

// eachFaultAfter makes the world ready before faults begin.
func eachFaultAfter(t *testing.T, ready func(*testing.T, *storetest.World), act, check func(t *testing.T, w *storetest.World, fault string)) {
	for db := range storetest.Databases(t) {
		for name, mode := range faults {
			t.Run(db+"/"+name, func(t *testing.T) {
				dsn := storetest.Databases(t)[db]
				fault := new(store.Fault)
				s, err := store.Open(context.Background(), store.WithFault(store.Options{DSN: dsn}, fault))
				if err != nil {
					t.Fatal(err)
				}
				w := storetest.NewWorld(t, s, 2)
				w.Load(t, storetest.Unit(0), storetest.Unit(1), storetest.Unit(2))
				ready(t, w)
				fault.Next(mode)
				act(t, w, name)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				w.Store = storetest.Open(t, dsn)
				verify(t, w.Store)
				check(t, w, name)
				verify(t, w.Store)
			})
		}
	}
}

// An enrolment whose commit fails is answered with an error; asked again,
// the device gets one certificate and uses one unit, whatever had happened.
func TestEnrolmentCommitFails(t *testing.T) {
	ctx := context.Background()
	claim := storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		if _, cert, err := storetest.Enrol(ctx, w.Store, claim); err == nil || cert != nil {
			t.Fatalf("a certificate was answered although the commit failed: %v", err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		before, err := w.Store.Order(ctx, "po-1")
		if err != nil {
			t.Fatal(err)
		}
		if persisted := fault == "persisted anyway"; persisted != (before.Issued == 1) {
			t.Errorf("%d units issued", before.Issued)
		}
		v, cert, err := storetest.Enrol(ctx, w.Store, claim)
		if err != nil || v.Outcome != vetting.Admitted || cert == nil {
			t.Fatalf("asked again: %s, %v", v.Text(), err)
		}
		after, err := w.Store.Order(ctx, "po-1")
		if err != nil || after.Issued != 1 {
			t.Errorf("%d units issued after asking again: %v", after.Issued, err)
		}
	})
}

// withCode lets the world's product accept codes, and makes code k.
func withCode(t *testing.T, w *storetest.World, k int) *vetting.EnrolmentCode {
	t.Helper()
	ctx := context.Background()
	p := *w.Product
	p.Proofs = append(p.Proofs, vetting.ProofCode)
	if _, err := w.Store.UpdateProduct(ctx, storetest.By, &p); err != nil {
		t.Fatal(err)
	}
	list, err := w.Store.CreateCodes(ctx, storetest.By, vetting.NewCodes{Order: "po-1", Hashes: []vetting.CodeHash{storetest.Hash(k)}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// Making and revoking codes that failed can be carried out again: what may
// have been made by the first attempt is unknown to everybody.
func TestMakingCodesFails(t *testing.T) {
	ctx := context.Background()
	n := 0
	var code *vetting.EnrolmentCode
	acts := map[string]func(w *storetest.World) error{
		"made": func(w *storetest.World) error {
			n++
			_, err := w.Store.CreateCodes(ctx, storetest.By, vetting.NewCodes{Order: "po-1", Hashes: []vetting.CodeHash{storetest.Hash(100 + n)}, Expires: time.Now().Add(time.Hour)})
			return err
		},
		"revoked": func(w *storetest.World) error { _, err := w.Store.RevokeCode(ctx, storetest.By, code.ID); return err },
		"revoked batch": func(w *storetest.World) error {
			_, err := w.Store.RevokeBatch(ctx, storetest.By, code.Batch)
			return err
		},
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			eachFaultAfter(t, func(t *testing.T, w *storetest.World) { code = withCode(t, w, 1) }, func(t *testing.T, w *storetest.World, fault string) {
				if act(w) == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if err := act(w); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				c, err := w.Store.Code(ctx, code.ID)
				if err != nil || (c.State == vetting.CodeRevoked) != (name != "made") {
					t.Errorf("the code is %+v, %v", c, err)
				}
			})
		})
	}
}

// A code whose use could not be committed lets one device in when it asks
// again, and no second one.
func TestUseOfCodeFails(t *testing.T) {
	ctx := context.Background()
	claim := storetest.ByCode(0, 1)
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { withCode(t, w, 1) }, func(t *testing.T, w *storetest.World, fault string) {
		if _, cert, err := storetest.Enrol(ctx, w.Store, claim); err == nil || cert != nil {
			t.Fatalf("a certificate was answered although the commit failed: %v", err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		v, cert, err := storetest.Enrol(ctx, w.Store, claim)
		if err != nil || v.Outcome != vetting.Admitted || cert == nil {
			t.Fatalf("asked again: %s, %v", v.Text(), err)
		}
		if v, _, err := storetest.Enrol(ctx, w.Store, storetest.ByCode(1, 1)); err != nil || v.Reasons[0].Code != vetting.ReasonCodeSpent {
			t.Errorf("another device: %s, %v", v.Text(), err)
		}
		o, err := w.Store.Order(ctx, "po-1")
		if err != nil || o.Issued != 1 {
			t.Errorf("%d units issued: %v", o.Issued, err)
		}
	})
}

func TestOtherWritesFail(t *testing.T) {
	ctx := context.Background()
	open, q := vetting.OrderClosed, int64(7)
	acts := map[string]func(w *storetest.World) error{
		"order": func(w *storetest.World) error {
			_, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{State: &open, Quantity: &q})
			return err
		},
		"product": func(w *storetest.World) error {
			_, err := w.Store.CreateProduct(ctx, storetest.By, &vetting.Product{Name: "other"})
			return err
		},
		"rules": func(w *storetest.World) error {
			p, err := w.Store.Product(ctx, "thermo")
			if err != nil {
				return err
			}
			p.Rules = []vetting.Rule{{Name: "a", Expression: "true", Otherwise: vetting.Held}}
			_, err = w.Store.UpdateProduct(ctx, storetest.By, p)
			return err
		},
		"operator": func(w *storetest.World) error {
			_, err := w.Store.CreateOperator(ctx, storetest.By, &access.Operator{Name: "anna", Role: access.RoleAdmin, Key: storetest.Key("anna", 1)})
			return err
		},
		"site": func(w *storetest.World) error {
			s, err := w.Store.Site(ctx, "hsinchu")
			if err != nil {
				return err
			}
			s.Networks = []string{"192.0.2.0/24"}
			_, err = w.Store.UpdateSite(ctx, storetest.By, s)
			return err
		},
		"limits": func(w *storetest.World) error {
			_, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{Limits: &vetting.Limits{PerHour: 3}})
			return err
		},
		"observations": func(w *storetest.World) error {
			_, err := w.Store.Observe(ctx, storetest.By, vetting.ObservationRules{}, []vetting.Observation{{Certificate: "ffffffffffffffffffffffffffffffffff", Event: vetting.ObservedConnect, At: time.Now()}})
			return err
		},
		"evidence": func(w *storetest.World) error {
			return w.Store.RecordEvidence(ctx, storetest.By, []vetting.Evidence{{Kind: vetting.EvidenceForged, Text: "x", Mark: []byte("m")}})
		},
		"webhook": func(w *storetest.World) error {
			_, err := newHook(w)
			return err
		},
		"manifest": func(w *storetest.World) error {
			r := storetest.Unit(9)
			_, err := w.TryLoad(r)
			return err
		},
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
				if err := act(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				// nothing half done: the act can be carried out now, or was
				if err := act(w); err != nil && vetting.ProblemOf(err) != vetting.Exists {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// An answer to a challenge whose commit fails is no answer yet, or is the one
// that counts: the device that answers again is told the same.
func TestAnswerFails(t *testing.T) {
	ctx := context.Background()
	device := func(t *testing.T, w *storetest.World) *vetting.Device {
		list, err := w.Store.Devices(ctx, vetting.DeviceFilter{Identity: storetest.Unit(0).Identity}, vetting.Page{})
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		return list[0]
	}
	var nonce vetting.Nonce
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		if _, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))); err != nil {
			t.Fatal(err)
		}
		c, err := w.Store.CreateChallenge(ctx, storetest.By, device(t, w).ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		nonce = c.Nonce
	}, func(t *testing.T, w *storetest.World, fault string) {
		if _, err := w.Store.AnswerByTLS(ctx, nonce, device(t, w).Certificate); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		c, err := w.Store.AnswerByTLS(ctx, nonce, device(t, w).Certificate)
		if err != nil || c.Result.Outcome != vetting.Proved || device(t, w).State != vetting.DeviceActive {
			t.Errorf("answered again: %+v, %v", c, err)
		}
	})
}

// A spoilt enrolment does not spoil the others of its batch.
func TestBatchIsTriedOneByOne(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := context.Background()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 100)
			var records []vetting.Record
			for i := range 64 {
				records = append(records, storetest.Unit(i))
			}
			w.Load(t, records...)
			after := time.Now().Add(time.Hour)
			if _, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{NotBefore: &after}); err != nil {
				t.Fatal(err)
			}
			// the same held request many times at once: all but one of a
			// batch would break its unique index
			errs := make(chan error, 32)
			for range cap(errs) {
				go func() {
					v, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(records[0].BootstrapKey, storetest.Key("official", 0)))
					if err == nil && v.Outcome != vetting.Held {
						t.Errorf("verdict %s", v.Outcome)
					}
					errs <- err
				}()
			}
			for range cap(errs) {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			held, err := w.Store.Registrations(ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
			if err != nil || len(held) != 1 {
				t.Errorf("%d held registrations, %v", len(held), err)
			}
			verify(t, w.Store)
		})
	}
}

// A founding that failed leaves the database free for the next attempt,
// which has another CA.
func TestFoundingFails(t *testing.T) {
	ctx := context.Background()
	found := func(w *storetest.World, ca string, n int) error {
		return w.Store.Found(ctx, ca, &access.Operator{Name: "admin", Role: access.RoleAdmin, Key: storetest.Key("admin", n)})
	}
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		if err := found(w, "aa", 1); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		err := found(w, "bb", 2)
		if fault == "persisted anyway" {
			if vetting.ProblemOf(err) != vetting.Conflict {
				t.Errorf("a founded database was founded again: %v", err)
			}
			return
		}
		if err != nil {
			t.Errorf("another attempt: %v", err)
		}
		if _, err := w.Store.Operator(ctx, "admin"); err != nil {
			t.Error(err)
		}
	})
}

// A time stamp whose leaf may not be there is not given.
func TestTimeStampCommitFails(t *testing.T) {
	latest := time.Now().Add(time.Hour)
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		if at, err := w.Store.NoteTimeStamp(t.Context(), "1 of SHA-256 00", latest); err == nil || !at.IsZero() {
			t.Fatalf("the time %s was given although the commit failed: %v", at, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if at, err := w.Store.NoteTimeStamp(t.Context(), "1 of SHA-256 00", latest); err != nil || at.IsZero() {
			t.Errorf("asked again: %s, %v", at, err)
		}
	})
}
