package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
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

// Tampering with each table is found.
func TestTamperingIsFound(t *testing.T) {
	for db := range storetest.Databases(t) {
		for name, sql := range map[string]string{
			"a certificate changes":   `UPDATE certificates SET state = 'revoked'`,
			"a certificate goes":      `DELETE FROM certificates`,
			"a device changes":        `UPDATE devices SET state = 'active'`,
			"the quota changes":       `UPDATE orders SET issued = issued - 1`,
			"a registration goes":     `DELETE FROM registrations`,
			"evidence goes":           `DELETE FROM evidence`,
			"a record changes":        `UPDATE records SET serial = 'SN-X' WHERE row_no = 2`,
			"a leaf goes":             `DELETE FROM leaves WHERE idx = 3`,
			"a leaf changes":          `UPDATE leaves SET body = (SELECT body FROM leaves WHERE idx = 2) WHERE idx = 3`,
			"the last leaf goes":      `DELETE FROM leaves WHERE idx = (SELECT MAX(idx) FROM leaves)`,
			"a site gets renamed":     `UPDATE sites SET name = 'elsewhere'`,
			"an approval is made up":  `UPDATE raises SET body = REPLACE(body, '"approvals":[]', '"approvals":[{"by":"anna"}]')`,
			"a raise goes":            `DELETE FROM raises`,
			"rules of once change":    `UPDATE rule_versions SET body = '[]' WHERE version = 1`,
			"rules of once go":        `DELETE FROM rule_versions WHERE version = 1`,
			"a test gets worse":       `UPDATE test_results SET body = '{"passed":false}'`,
			"a test goes":             `DELETE FROM test_results`,
			"an operator gets rights": `UPDATE operators SET role = 'admin'`,
			"a code is unused again":  `UPDATE codes SET used = 0, used_by = 0`,
			"a code gets another":     `UPDATE codes SET hash = 'x'`,
			"a code goes":             `DELETE FROM codes`,
			"a revocation is untold":  `DELETE FROM statuses WHERE seq = (SELECT MAX(seq) FROM statuses)`,
			"a revocation gets older": `UPDATE statuses SET revoked = revoked - 1`,
			"it gets another reason":  `UPDATE statuses SET reason = 8`,
			"it is another CA's":      `UPDATE statuses SET issuer = 1`,
			"a certificate is said to be revoked": `INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after)
				SELECT 1000000, serial, 0, 1, 1, not_after FROM certificates WHERE state = 'valid'`,
			"one that never was is": `INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after) VALUES (1000000, 'x', 0, 1, 1, 1)`,
		} {
			t.Run(db+"/"+name, func(t *testing.T) {
				ctx := context.Background()
				s := storetest.Open(t, storetest.Databases(t)[db])
				w := storetest.NewWorld(t, s, 2)
				w.Load(t, storetest.Unit(0), storetest.Unit(1), storetest.Unit(2))
				if _, err := s.CreateOperator(ctx, storetest.By, &access.Operator{Name: "max", Role: access.RoleSupport, Key: storetest.Key("max", 1)}); err != nil {
					t.Fatal(err)
				}
				approvals := 2
				if _, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &approvals}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.ProposeRaise(ctx, storetest.By, "po-1", 5, "more"); err != nil {
					t.Fatal(err)
				}
				for _, rules := range [][]vetting.Rule{{{Name: "a", Expression: "true", Otherwise: vetting.Held}}, nil} {
					w.Product.Rules = rules
					var err error
					if w.Product, err = s.UpdateProduct(ctx, storetest.By, w.Product); err != nil {
						t.Fatal(err)
					}
				}
				withCode(t, w, 1)
				if _, _, err := storetest.Enrol(ctx, s, storetest.ByCode(0, 1)); err != nil {
					t.Fatal(err)
				}
				f, err := s.Facts(ctx, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.AddTestResult(ctx, storetest.By, f.Record.ID, &vetting.TestResult{Passed: true}); err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					if _, _, err := storetest.Enrol(ctx, s, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.RevokeDevice(ctx, storetest.By, f.Record.ID, vetting.RevokedKeyCompromise, "leaked"); err != nil {
					t.Fatal(err)
				}
				verify(t, s)
				if err := s.Tamper(ctx, sql); err != nil {
					t.Fatal(err)
				}
				err = s.Snapshot(ctx, func(src audit.Source) error {
					report, err := audit.Verify(ctx, src, audit.Options{})
					if err == nil && report.OK() {
						t.Error("audit verify found nothing")
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		}
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

// A test result whose commit fails was kept, or not; handed in again under
// its key, it is kept once.
func TestResultCommitFails(t *testing.T) {
	ctx := context.Background()
	hand := func(w *storetest.World) (id int64, err error) {
		f, err := w.Store.Facts(ctx, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0)))
		if err != nil {
			return 0, err
		}
		_, err = w.Store.AddTestResult(ctx, access.Act{Operator: "rig-7", Key: "k"}, f.Record.ID, &vetting.TestResult{Note: "radio dead"})
		return f.Record.ID, err
	}
	results := func(t *testing.T, w *storetest.World, id int64) int {
		t.Helper()
		h, err := w.Store.DeviceHistory(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if (len(h.Tests) > 0) != h.Device.Failed() {
			t.Errorf("%d results, but the device is %+v", len(h.Tests), h.Device)
		}
		return len(h.Tests)
	}
	var id int64
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		var err error
		if id, err = hand(w); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if n := results(t, w, id); (n == 1) != (fault == "persisted anyway") {
			t.Errorf("%d results", n)
		}
		if _, err := hand(w); err != nil {
			t.Errorf("handed in again: %v", err)
		}
		if n := results(t, w, id); n != 1 {
			t.Errorf("%d results after it was handed in again", n)
		}
	})
}

// A rework or replacement whose commit fails gave the unit back, or did not;
// asked again, it is given back once, and counted once if a site asked.
func TestReworkCommitFails(t *testing.T) {
	ctx := context.Background()
	unit := func(w *storetest.World, n int) (int64, error) {
		f, err := w.Store.Facts(ctx, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n)))
		if err != nil {
			return 0, err
		}
		return f.Record.ID, nil
	}
	for name, c := range map[string]struct {
		again    vetting.Problem // of the same act, once it took effect
		replaced int64           // by the site
		act      func(w *storetest.World, id, by int64) (*vetting.Device, error)
	}{
		"rework": {vetting.Conflict, 0, func(w *storetest.World, id, by int64) (*vetting.Device, error) {
			return w.Store.ReworkDevice(ctx, storetest.By, id, "radio dead")
		}},
		"replacement": {0, 1, func(w *storetest.World, id, by int64) (*vetting.Device, error) {
			return w.Store.ReplaceDevice(ctx, storetest.By, id, by, "radio dead")
		}},
	} {
		act := func(w *storetest.World) error {
			id, err := unit(w, 0)
			if err != nil {
				return err
			}
			by, err := unit(w, 1)
			if err != nil {
				return err
			}
			_, err = c.act(w, id, by)
			return err
		}
		t.Run(name, func(t *testing.T) {
			eachFaultAfter(t, issuedAndFailed, func(t *testing.T, w *storetest.World, fault string) {
				if err := act(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				persisted := fault == "persisted anyway"
				want := units{issued: 1}
				if persisted {
					want = units{replaced: c.replaced}
				}
				if got := unitsOf(t, w); got != want {
					t.Errorf("%+v units, want %+v", got, want)
				}
				if err := act(w); persisted && vetting.ProblemOf(err) != c.again || !persisted && err != nil {
					t.Errorf("asked again: %v", err)
				}
				if got, want := unitsOf(t, w), (units{replaced: c.replaced}); got != want {
					t.Errorf("%+v units after asking again, want %+v", got, want)
				}
			})
		})
	}
}

// issuedAndFailed lets unit 0 in, and then fail its test.
func issuedAndFailed(t *testing.T, w *storetest.World) {
	t.Helper()
	ctx := context.Background()
	bySite := vetting.ReworkBySite
	if _, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{Rework: &bySite}); err != nil {
		t.Fatal(err)
	}
	claim := storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))
	if _, _, err := storetest.Enrol(ctx, w.Store, claim); err != nil {
		t.Fatal(err)
	}
	f, err := w.Store.Facts(ctx, claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Store.AddTestResult(ctx, storetest.By, f.Record.ID, &vetting.TestResult{Note: "radio dead"}); err != nil {
		t.Fatal(err)
	}
}

// units are the counters of an order.
type units struct{ issued, replaced int64 }

func unitsOf(t *testing.T, w *storetest.World) units {
	t.Helper()
	o, err := w.Store.Order(context.Background(), "po-1")
	if err != nil {
		t.Fatal(err)
	}
	return units{o.Issued, o.Replaced}
}

// An approval whose commit fails was given, or not; given again under its
// key, the order is raised, once.
func TestRaiseCommitFails(t *testing.T) {
	ctx := context.Background()
	var id int64
	approve := func(w *storetest.World) error {
		_, err := w.Store.ApproveRaise(ctx, access.Act{Operator: "berta", Key: "k"}, "po-1", id, 5)
		return err
	}
	order := func(t *testing.T, w *storetest.World) *vetting.Order {
		t.Helper()
		o, err := w.Store.Order(ctx, "po-1")
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		one := 1
		if _, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &one}); err != nil {
			t.Fatal(err)
		}
		r, err := w.Store.ProposeRaise(ctx, access.Act{Operator: "anna"}, "po-1", 5, "more")
		if err != nil {
			t.Fatal(err)
		}
		id = r.ID
	}, func(t *testing.T, w *storetest.World, fault string) {
		if err := approve(w); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		before := order(t, w)
		if persisted := fault == "persisted anyway"; persisted != (before.Quantity == 5) {
			t.Errorf("the order is for %d units", before.Quantity)
		}
		if err := approve(w); err != nil {
			t.Errorf("given again: %v", err)
		}
		if o := order(t, w); o.Quantity != 5 || o.Revision != 3 {
			t.Errorf("the order is for %d units, at revision %d", o.Quantity, o.Revision)
		}
	})
}
