package storetest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

var processCases = []conformance{
	{"a database belongs to one CA", processBind},
	{"a database is founded whole or not at all", processFound},
	{"a database answers", processPing},
	{"a store ends once", processClose},
	{"what was handed in before the end is done or refused", processCloseWhileWriting},
	{"a closed store does nothing", processClosed},
	{"an ended context does nothing", processEnded},
}

func processBind(t *trial) {
	other := t.second()
	before := t.leaves()
	for range 2 {
		t.done(t.store.Bind(t.ctx, "aa"))
		t.done(other.Bind(t.ctx, "aa"))
	}
	for _, s := range []*store.Store{t.store, other, t.second()} {
		t.refuses(vetting.Conflict)(nil, s.Bind(t.ctx, "bb"))
	}
	t.refuses(vetting.Conflict)(nil, t.store.Bind(t.ctx, "bb", "cc"))
	t.done(t.store.Bind(t.ctx, "aa"))
	t.done(t.store.Bind(t.ctx, "bb", "cc", "aa")) // the root of the same CA with another key
	t.refuses(vetting.Conflict)(nil, t.store.Bind(t.ctx, "aa"))
	t.done(t.store.Bind(t.ctx, "aa", "bb")) // and back
	t.done(t.store.Bind(t.ctx, "aa"))
	if t.leaves() != before {
		t.Error("binding left a leaf")
	}
}

func processFound(t *trial) {
	anna := &access.Operator{Name: "anna", Role: access.RoleAdmin, Key: Key("anna", 0)}
	t.refuses(vetting.NotFound)(nil, t.store.Found(t.ctx, "aa", &access.Operator{Name: "rig", Role: access.RoleRig, Site: "gdansk", Key: Key("rig", 0)}))
	t.done(t.store.Found(t.ctx, "bb", anna)) // the failed attempt bound nothing
	if o := ok(t.store.OperatorByKey(t.ctx, anna.Key))(t); o.Name != "anna" || o.Role != access.RoleAdmin || t.leaves() != 1 {
		t.Errorf("the first operator is %+v", o)
	}
	berta := &access.Operator{Name: "berta", Role: access.RoleAdmin, Key: Key("berta", 0)}
	t.refuses(vetting.Conflict)(nil, t.store.Found(t.ctx, "aa", berta))
	t.refuses(vetting.NotFound)(t.store.Operator(t.ctx, "berta"))
	t.refuses(vetting.Exists)(nil, t.store.Found(t.ctx, "bb", anna))
}

func processPing(t *trial) {
	t.done(t.store.Ping(t.ctx))
	other := t.second()
	t.done(other.Ping(t.ctx))
	t.done(other.Close())
	if err := other.Ping(t.ctx); err == nil {
		t.Error("a closed store answers")
	}
	t.done(t.store.Ping(t.ctx)) // another's end is no matter
}

func processClose(t *trial) {
	t.world(1, Unit(0))
	t.done(t.store.Close())
	t.done(t.store.Close())
	again := t.second() // all of it is still there
	if f := ok(again.Facts(t.ctx, first(0)))(t); f.Record == nil {
		t.Error("after the end a record is gone")
	}
}

// What returned without an error before Close is in the database, and what
// returned with one is not.
func processCloseWhileWriting(t *trial) {
	t.world(100)
	other := t.second()
	const writers = 64
	var started, ended sync.WaitGroup
	errs := make([]error, writers)
	names := make([]string, writers)
	for i := range writers {
		names[i] = Key("site", i).String()[:10]
		started.Add(1)
		ended.Go(func() {
			started.Done()
			_, errs[i] = other.CreateSite(t.ctx, By, &vetting.Site{Name: names[i]})
		})
	}
	started.Wait()
	t.done(other.Close())
	ended.Wait()
	for i, name := range names {
		_, err := t.store.Site(t.ctx, name)
		if errs[i] == nil && err != nil {
			t.Errorf("%s was answered and is not there: %v", name, err)
		}
	}
}

// calls has one call for each method. All arguments are such that an open
// store would do what they say, or look for what there is not.
func calls(ctx context.Context, s *store.Store) map[string]func() error {
	page, state := vetting.Page{}, vetting.OrderClosed
	refused := func() error {
		c := Claim(Key("stranger", 0), Key("official", 9))
		_, err := s.Commit(ctx, commitOf(vetting.Facts{Claim: c}))
		return err
	}
	return map[string]func() error{
		"Ping":        func() error { return s.Ping(ctx) },
		"CheckWrites": func() error { return s.CheckWrites(ctx) },
		"Bind":        func() error { return s.Bind(ctx, "zz") },
		"Found": func() error {
			return s.Found(ctx, "zz", &access.Operator{Name: "zoe", Role: access.RoleAdmin, Key: Key("zoe", 0)})
		},
		"Products":      call(func() (any, error) { return s.Products(ctx, page) }),
		"Product":       call(func() (any, error) { return s.Product(ctx, "thermo") }),
		"CreateProduct": call(func() (any, error) { return s.CreateProduct(ctx, By, &vetting.Product{Name: "lamp"}) }),
		"UpdateProduct": call(func() (any, error) { return s.UpdateProduct(ctx, By, &vetting.Product{Name: "thermo", Revision: 1}) }),
		"Sites":         call(func() (any, error) { return s.Sites(ctx, page) }),
		"Site":          call(func() (any, error) { return s.Site(ctx, "hsinchu") }),
		"CreateSite":    call(func() (any, error) { return s.CreateSite(ctx, By, &vetting.Site{Name: "gdansk"}) }),
		"Orders":        call(func() (any, error) { return s.Orders(ctx, vetting.OrderFilter{}, page) }),
		"Order":         call(func() (any, error) { return s.Order(ctx, "po-1") }),
		"CreateOrder": call(func() (any, error) {
			return s.CreateOrder(ctx, By, &vetting.Order{Name: "po-2", Product: "thermo", Site: "hsinchu"})
		}),
		"ChangeOrder":   call(func() (any, error) { return s.ChangeOrder(ctx, By, "po-1", vetting.OrderChange{State: &state}) }),
		"Operators":     call(func() (any, error) { return s.Operators(ctx, page) }),
		"Operator":      call(func() (any, error) { return s.Operator(ctx, "anna") }),
		"OperatorByKey": call(func() (any, error) { return s.OperatorByKey(ctx, Key("anna", 0)) }),
		"CreateOperator": call(func() (any, error) {
			return s.CreateOperator(ctx, By, &access.Operator{Name: "zoe", Role: access.RoleAdmin})
		}),
		"RenewOperator": call(func() (any, error) {
			return s.RenewOperator(ctx, By, &access.Operator{Name: "anna", Key: Key("anna", 0)})
		}),
		"LogIn":                call(func() (any, error) { return s.LogIn(ctx, access.Login{Operator: "anna"}) }),
		"OperatorCounts":       call(func() (any, error) { return s.OperatorCounts(ctx) }),
		"RevokeOperator":       call(func() (any, error) { return s.RevokeOperator(ctx, By, "anna") }),
		"Manifests":            call(func() (any, error) { return s.Manifests(ctx, vetting.ManifestFilter{}, page) }),
		"Manifest":             call(func() (any, error) { return s.Manifest(ctx, 1) }),
		"ManifestByDigest":     call(func() (any, error) { return s.ManifestByDigest(ctx, "po-1", "00") }),
		"ManifestsToLoad":      call(func() (any, error) { return s.ManifestsToLoad(ctx) }),
		"BeginManifest":        call(func() (any, error) { return s.BeginManifest(ctx, &vetting.Manifest{OrderID: 1}) }),
		"AddManifestPart":      func() error { return s.AddManifestPart(ctx, 1, 0, []byte("a")) },
		"DropManifest":         func() error { return s.DropManifest(ctx, 1) },
		"ManifestParts":        func() error { return s.ManifestParts(ctx, 1, func([]byte) error { return nil }) },
		"AcceptManifest":       call(func() (any, error) { return s.AcceptManifest(ctx, By, &vetting.Manifest{ID: 1}, nil) }),
		"AddManifestSignature": call(func() (any, error) { return s.AddManifestSignature(ctx, By, 1, signed("lin")[0]) }),
		"LoadRecords":          call(func() (any, error) { return s.LoadRecords(ctx, 1, 0, []vetting.Record{Unit(0)}) }),
		"Devices":              call(func() (any, error) { return s.Devices(ctx, vetting.DeviceFilter{}, page) }),
		"Device":               call(func() (any, error) { return s.Device(ctx, 1) }),
		"DeviceHistory":        call(func() (any, error) { return s.DeviceHistory(ctx, 1) }),
		"SetDeviceState":       call(func() (any, error) { return s.SetDeviceState(ctx, By, 1, vetting.DeviceScrapped, "") }),
		"PlanJob":              call(func() (any, error) { return s.PlanJob(ctx, By, task(vetting.JobRevoke)) }),
		"ConfirmJob":           call(func() (any, error) { return s.ConfirmJob(ctx, By, 1, "aa", true) }),
		"CancelJob":            call(func() (any, error) { return s.CancelJob(ctx, By, 1, "") }),
		"ResumeJob":            call(func() (any, error) { return s.ResumeJob(ctx, By, 1, "") }),
		"Jobs":                 call(func() (any, error) { return s.Jobs(ctx, page) }),
		"Job":                  call(func() (any, error) { return s.Job(ctx, 1) }),
		"JobDevices":           call(func() (any, error) { return s.JobDevices(ctx, 1, page) }),
		"NextJob":              call(func() (any, error) { return s.NextJob(ctx, "me") }),
		"WorkOnJob":            func() error { _, _, err := s.WorkOnJob(ctx, 1, "me"); return err },
		"ScrapRecord":          call(func() (any, error) { return s.ScrapRecord(ctx, By, 1, "") }),
		"RevokeDevice":         call(func() (any, error) { return s.RevokeDevice(ctx, By, 1, vetting.RevokedUnspecified, "") }),
		"RevokeCertificate":    call(func() (any, error) { return s.RevokeCertificate(ctx, By, "00ff", vetting.RevokedUnspecified, "") }),
		"Standing":             call(func() (any, error) { return s.Standing(ctx, "00ff") }),
		"RenewalHint":          func() error { _, _, _, err := s.RenewalHint(ctx, 1); return err },
		"Certificate":          call(func() (any, error) { return s.Certificate(ctx, "00ff") }),
		"Registrations":        call(func() (any, error) { return s.Registrations(ctx, vetting.RegistrationFilter{}, page) }),
		"Registration":         call(func() (any, error) { return s.Registration(ctx, 1) }),
		"DecideRegistration":   call(func() (any, error) { return s.DecideRegistration(ctx, By, 1, vetting.Decision{}) }),
		"Evidence":             call(func() (any, error) { return s.Evidence(ctx, vetting.EvidenceFilter{}, page) }),
		"Tally":                call(func() (any, error) { return s.Tally(ctx) }),
		"Facts":                call(func() (any, error) { return s.Facts(ctx, first(0)) }),
		"ReadmitDevice":        call(func() (any, error) { return s.ReadmitDevice(ctx, By, 1, "") }),
		"IssuingCAs":           call(func() (any, error) { return s.IssuingCAs(ctx) }),
		"IssuingCA":            call(func() (any, error) { return s.IssuingCA(ctx, "acme") }),
		"CreateIssuingCA":      call(func() (any, error) { return s.CreateIssuingCA(ctx, By, &vetting.IssuingCA{Name: "acme"}) }),
		"RenewIssuingCA":       call(func() (any, error) { return s.RenewIssuingCA(ctx, By, &vetting.IssuingCA{Name: "acme"}) }),
		"NoteAuthorities":      func() error { return s.NoteAuthorities(ctx, []string{"root aa"}) },
		"CertificateCounts":    call(func() (any, error) { return s.CertificateCounts(ctx) }),
		"SetDefaultIssuingCA":  func() error { return s.SetDefaultIssuingCA(ctx, By, "acme") },
		"CloseIssuingCA":       call(func() (any, error) { return s.CloseIssuingCA(ctx, By, IssuingCA("acme")) }),
		"ReopenIssuingCA":      call(func() (any, error) { return s.ReopenIssuingCA(ctx, By, "acme") }),
		"SetOwnerIssuer":       call(func() (any, error) { return s.SetOwnerIssuer(ctx, By, "acme", "") }),
		"Owners":               call(func() (any, error) { return s.Owners(ctx, page) }),
		"Owner":                call(func() (any, error) { return s.Owner(ctx, "acme") }),
		"CreateOwner":          call(func() (any, error) { return s.CreateOwner(ctx, By, &vetting.Owner{Name: "acme"}) }),
		"Transfers":            call(func() (any, error) { return s.Transfers(ctx, vetting.TransferFilter{}, page) }),
		"Transfer":             call(func() (any, error) { return s.Transfer(ctx, 1) }),
		"TransferDevices":      call(func() (any, error) { return s.TransferDevices(ctx, 1, page) }),
		"OfferTransfer":        call(func() (any, error) { return s.OfferTransfer(ctx, By, offerOf(vetting.Manufacturer, "acme", 0)) }),
		"AcceptTransfer":       call(func() (any, error) { return s.AcceptTransfer(ctx, By, 1, "") }),
		"HandOut":              call(func() (any, error) { return s.HandOut(ctx, By, vetting.Handout{DeviceID: 1}) }),
		"Voucher":              call(func() (any, error) { return s.Voucher(ctx, 1) }),
		"DeclineTransfer":      call(func() (any, error) { return s.DeclineTransfer(ctx, By, 1, "") }),
		"WithdrawTransfer":     call(func() (any, error) { return s.WithdrawTransfer(ctx, By, 1, "") }),
		"ReverseTransfer":      call(func() (any, error) { return s.ReverseTransfer(ctx, By, 1, "") }),
		"RuleVersions":         call(func() (any, error) { return s.RuleVersions(ctx, "thermo", page) }),
		"Raises":               call(func() (any, error) { return s.Raises(ctx, "po-1", page) }),
		"ProposeRaise":         call(func() (any, error) { return s.ProposeRaise(ctx, By, "po-1", 1000, "") }),
		"ApproveRaise":         call(func() (any, error) { return s.ApproveRaise(ctx, By, "po-1", 1, 1000, approval.Approval{}) }),
		"WithdrawRaise":        call(func() (any, error) { return s.WithdrawRaise(ctx, By, "po-1", 1, "") }),
		"Proposals":            call(func() (any, error) { return s.Proposals(ctx, approval.Filter{}, page) }),
		"Proposal":             call(func() (any, error) { return s.Proposal(ctx, 1) }),
		"ApproveProposal":      call(func() (any, error) { return s.ApproveProposal(ctx, By, 1, approval.Approval{}) }),
		"RetractApproval":      call(func() (any, error) { return s.RetractApproval(ctx, By, 1, "") }),
		"WithdrawProposal":     call(func() (any, error) { return s.WithdrawProposal(ctx, By, 1, "") }),
		"AddTestResult":        call(func() (any, error) { return s.AddTestResult(ctx, By, 1, &passed) }),
		"ReplaceDevice":        call(func() (any, error) { return s.ReplaceDevice(ctx, By, 1, 2, "") }),
		"ReworkDevice":         call(func() (any, error) { return s.ReworkDevice(ctx, By, 1, "") }),
		"UpdateSite":           call(func() (any, error) { return s.UpdateSite(ctx, By, &vetting.Site{Name: "hsinchu", Revision: 1}) }),
		"Count":                call(func() (any, error) { return s.Count(ctx, counted(0), vetting.Looks{Pace: true, Attempts: true}) }),
		"OnSite":               call(func() (any, error) { return s.OnSite(ctx, counted(0)) }),
		"Codes":                call(func() (any, error) { return s.Codes(ctx, vetting.CodeFilter{}, page) }),
		"Code":                 call(func() (any, error) { return s.Code(ctx, 1) }),
		"CreateCodes": call(func() (any, error) {
			return s.CreateCodes(ctx, By, vetting.NewCodes{Order: "po-1", Hashes: []vetting.CodeHash{Hash(1)}})
		}),
		"RevokeCode":  call(func() (any, error) { return s.RevokeCode(ctx, By, 1) }),
		"RevokeBatch": call(func() (any, error) { return s.RevokeBatch(ctx, By, 1) }),
		"Subjects": call(func() (any, error) {
			return s.Subjects(ctx, vetting.SubjectQuery{Identity: vetting.Identity{Serial: "SN-1"}})
		}),
		"Challenge":       call(func() (any, error) { return s.Challenge(ctx, 1) }),
		"CreateChallenge": call(func() (any, error) { return s.CreateChallenge(ctx, By, 1, time.Minute) }),
		"AnswerChallenge": call(func() (any, error) { return s.AnswerChallenge(ctx, By, 1, "", nil) }),
		"AnswerByTLS":     call(func() (any, error) { return s.AnswerByTLS(ctx, vetting.Nonce{}, "00ff") }),
		"Observe": call(func() (any, error) {
			return s.Observe(ctx, By, observedBy, []vetting.Observation{sighting("0a", hour(), 0)})
		}),
		"WitnessEvidence":     func() error { return s.WitnessEvidence(ctx, []vetting.Evidence{{Kind: vetting.EvidenceReplayed}}) },
		"ForgetMessages":      func() error { return s.ForgetMessages(ctx, time.Now()) },
		"RecordEvidence":      func() error { return s.RecordEvidence(ctx, By, []vetting.Evidence{{Kind: vetting.EvidenceForged}}) },
		"ClearEvidence":       call(func() (any, error) { return s.ClearEvidence(ctx, By, 1, "") }),
		"ReopenEvidence":      call(func() (any, error) { return s.ReopenEvidence(ctx, By, 1, "") }),
		"ClearDeviceEvidence": call(func() (any, error) { return s.ClearDeviceEvidence(ctx, By, 1, "") }),
		"PastRegistrations": func() error {
			return s.PastRegistrations(ctx, "thermo", time.Time{}, 1, func(vetting.Past) error { return nil })
		},
		"Events":          call(func() (any, error) { return s.Events(ctx, events.Position{}, events.Filter{}, 1) }),
		"LogSize":         call(func() (any, error) { return s.LogSize(ctx) }),
		"Webhooks":        call(func() (any, error) { return s.Webhooks(ctx, page) }),
		"Webhook":         call(func() (any, error) { return s.Webhook(ctx, "erp") }),
		"CreateWebhook":   call(func() (any, error) { return s.CreateWebhook(ctx, By, &events.Webhook{Name: "erp"}, nil) }),
		"UpdateWebhook":   call(func() (any, error) { return s.UpdateWebhook(ctx, By, &events.Webhook{Name: "erp"}) }),
		"PauseWebhook":    call(func() (any, error) { return s.PauseWebhook(ctx, By, "erp", "") }),
		"ResumeWebhook":   call(func() (any, error) { return s.ResumeWebhook(ctx, By, "erp") }),
		"RotateWebhook":   call(func() (any, error) { return s.RotateWebhook(ctx, By, "erp", nil, 0) }),
		"DeleteWebhook":   func() error { return s.DeleteWebhook(ctx, By, "erp") },
		"HoldWebhooks":    call(func() (any, error) { return s.HoldWebhooks(ctx, "a", time.Second) }),
		"DropWebhooks":    func() error { return s.DropWebhooks(ctx, "a") },
		"SaveDelivery":    func() error { return s.SaveDelivery(ctx, "a", &events.Webhook{}, events.Delivery{}) },
		"PauseDelivery":   func() error { return s.PauseDelivery(ctx, "a", &events.Webhook{}, events.Delivery{}, "") },
		"Commit":          refused,
		"Activate":        func() error { return activate(ctx, s, "00ff") },
		"Head":            call(func() (any, error) { return s.Head(ctx) }),
		"Leaves":          func() error { return s.Leaves(ctx, 0, 9, func(int64, []byte) error { return nil }) },
		"AcceptLoss":      call(func() (any, error) { return s.AcceptLoss(ctx, "gone") }),
		"LastCheckpoint":  call(func() (any, error) { return s.LastCheckpoint(ctx) }),
		"SaveCheckpoint":  func() error { return s.SaveCheckpoint(ctx, 1, []byte("a")) },
		"NoteResponder":   func() error { return s.NoteResponder(ctx, "server", "device-ca", []byte{1}) },
		"NoteTimeStamp":   call(func() (any, error) { return s.NoteTimeStamp(ctx, "a", time.Now()) }),
		"NoteTimestamper": func() error { return s.NoteTimestamper(ctx, "codesign-ca", []byte{1}) },
		"OfflineFiles":    call(func() (any, error) { return s.OfflineFiles(ctx) }),
		"OfflineFile":     call(func() (any, error) { return s.OfflineFile(ctx, 0, offline.Base) }),
		"KeepOfflineFile": call(func() (any, error) {
			return s.KeepOfflineFile(ctx, "server", "", 0, publish.Kept{Kind: offline.Base, Number: 1}, []byte("a"))
		}),
		"IssuedCertificates": func() error {
			return s.IssuedCertificates(ctx, 0, time.Now(), func([]byte, bool) error { return nil })
		},
		"CRLs":          call(func() (any, error) { return s.CRLs(ctx, 0) }),
		"CRLChunk":      call(func() (any, error) { return s.CRLChunk(ctx, 1, 0) }),
		"Account":       call(func() (any, error) { return s.Account(ctx, 1) }),
		"AccountByKey":  call(func() (any, error) { return s.AccountByKey(ctx, Key("account", 1)) }),
		"OpenAccount":   func() error { _, _, err := s.OpenAccount(ctx, &certorder.Account{}); return err },
		"ChangeAccount": func() error { return s.ChangeAccount(ctx, &certorder.Account{}) },
		"AccountKey":    call(func() (any, error) { return s.AccountKey(ctx, 1) }),
		"AccountKeys":   call(func() (any, error) { return s.AccountKeys(ctx, vetting.AccountKeyFilter{}, page) }),
		"CreateAccountKey": call(func() (any, error) {
			return s.CreateAccountKey(ctx, By, &vetting.AccountKey{})
		}),
		"RevokeAccountKey":       call(func() (any, error) { return s.RevokeAccountKey(ctx, By, 1) }),
		"CertificateOrder":       call(func() (any, error) { return s.CertificateOrder(ctx, 1) }),
		"CertificateOrders":      call(func() (any, error) { return s.CertificateOrders(ctx, 1, 0, 1) }),
		"OpenCertificateOrder":   func() error { return s.OpenCertificateOrder(ctx, &certorder.Account{}, &certorder.Order{}) },
		"ChangeCertificateOrder": func() error { return s.ChangeCertificateOrder(ctx, nil, &certorder.Order{}) },
		"ForgetCertificateOrders": call(func() (any, error) {
			return s.ForgetCertificateOrders(ctx, time.Now())
		}),
		"AllowServer":  func() error { return s.AllowServer(ctx, "", "web1.lab.example") },
		"EnlistServer": func() error { return s.EnlistServer(ctx, 1, "po-1", "web1.lab.example") },
		"LastCertificate": call(func() (any, error) {
			return s.LastCertificate(ctx, 1, certorder.Identifier{})
		}),
		"OrderOfCertificate": call(func() (any, error) { return s.OrderOfCertificate(ctx, "00ff") }),
		"RevokeByHolder":     func() error { return s.RevokeByHolder(ctx, "holder", "00ff", vetting.RevokedKeyCompromise) },
		"ProductOfEK":        call(func() (any, error) { return s.ProductOfEK(ctx, Key("ek", 1)) }),
		"DeviceOfEK":         call(func() (any, error) { return s.DeviceOfEK(ctx, Key("ek", 1)) }),
		"NoteAKCertificate":  func() error { return s.NoteAKCertificate(ctx, Key("ek", 1), []byte{1}) },
		"Secret":             call(func() (any, error) { return s.Secret(ctx, "access-tokens") }),
		"EndCRLs":            call(func() (any, error) { return s.EndCRLs(ctx, "server", "", 0, 4) }),
		"CertificatesInForce": func() error {
			return s.CertificatesInForce(ctx, 0, time.Now(), func([]byte, time.Time) {})
		},
		"TidyCRLs": call(func() (any, error) { return s.TidyCRLs(ctx) }),
		"KeepCRLs": call(func() (any, error) {
			return s.KeepCRLs(ctx, "server", "", []*crl.Made{{Content: bytes.NewBufferString("x")}})
		}),
		"Changes": call(func() (any, error) {
			return s.Changes(ctx, 0, func([]ocsp.Change) error { return nil })
		}),
		"Snapshot": func() error {
			return s.Snapshot(ctx, func(src audit.Source) error {
				_, err := src.Head(ctx)
				return err
			})
		},
	}
}

func allCalls(ctx context.Context, s *store.Store) map[string]func() error {
	all := calls(ctx, s)
	maps.Copy(all, firmwareCalls(ctx, s))
	maps.Copy(all, wrapCalls(ctx, s))
	maps.Copy(all, licenceCalls(ctx, s))
	maps.Copy(all, guardedCalls(ctx, s))
	maps.Copy(all, tufCalls(ctx, s))
	return all
}

func call(fn func() (any, error)) func() error {
	return func() error {
		_, err := fn()
		return err
	}
}

// notCalled are the methods that calls leaves out.
var notCalled = map[string]bool{"Close": true, "Tamper": true, "Waiting": true} // the last two the store's own tests add

func processClosed(t *trial) {
	w := t.world(10, Unit(0))
	other := t.second()
	before := ok(t.store.Head(t.ctx))(t).Root()
	t.done(other.Close())
	all := allCalls(t.ctx, other)
	for name, call := range all {
		if err := call(); err == nil || vetting.ProblemOf(err) != 0 {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	typ := reflect.TypeOf(other)
	for i := range typ.NumMethod() {
		if name := typ.Method(i).Name; all[name] == nil && !notCalled[name] {
			t.Errorf("no test calls %s: add it to calls", name)
		}
	}
	t.expectUnchanged(w, before.String())
}

func processEnded(t *trial) {
	w := t.world(10, Unit(0))
	before := ok(t.store.Head(t.ctx))(t).Root()
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	for range 5 { // whether a call gets as far as the writer is a matter of luck
		for name, call := range allCalls(ctx, t.store) {
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with an ended context: %v", name, err)
			}
		}
	}
	t.expectUnchanged(w, before.String())
}

// expectUnchanged checks that none of the calls took effect, also of those
// that leave no leaf.
func (t *trial) expectUnchanged(w *World, root string) {
	t.Helper()
	if now := ok(t.store.Head(t.ctx))(t).Root(); now.String() != root {
		t.Error("the log grew")
	}
	if note := ok(t.store.LastCheckpoint(t.ctx))(t); note != nil {
		t.Errorf("the checkpoint %q was kept", note)
	}
	if parts := t.parts(1); parts != "" {
		t.Errorf("the parts %q were kept", parts)
	}
	same(t, "the order", ok(t.store.Order(t.ctx, "po-1"))(t), w.Order)
	t.done(t.store.Bind(t.ctx, "aa")) // nobody bound it to another
}
