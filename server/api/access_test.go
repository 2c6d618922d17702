package api_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// form makes the body of an upload; parts are name, type, file name, bytes.
func form(t testing.TB, parts ...[4]string) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", p[0], p[2])}}
		if p[1] != "" {
			h.Set("Content-Type", p[1])
		}
		w, err := mw.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, p[3])
	}
	if err := mw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), mw.FormDataContentType()
}

// attempt is one route as the table tries it: on things of the near site and,
// where it names one, on those of the far site.
type attempt struct {
	near, far string
	body      any
	options   []option
	status    int // of success
}

func attempts(t testing.TB) map[string]attempt {
	csr, _ := newCSR(t, "x")
	upload, uploadType := form(t, [4]string{"signature", "", "s.p7s", "sig"}, [4]string{"manifest", "text/csv", "m.csv", "serial\n1\n"})
	issuer := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newAuthority(t, "issuing CA").cert.Raw}))
	product := map[string]any{"profile": map[string]any{"validity": "10d"}, "proofs": []string{"rig"}, "licences": map[string]any{"uid": "opaque"}}
	with := func(m map[string]any, k string, v any) map[string]any {
		out := map[string]any{k: v}
		for k, v := range m {
			out[k] = v
		}
		return out
	}
	file := map[string]any{"size": 5, "sha256": strings.Repeat("0a", 32)}
	artefact := map[string]any{"stage": "production", "name": "app.bin", "format": "raw", "source": file, "keys": []string{"lamp-1"},
		"toSign": []any{map[string]any{"algorithm": "ed25519", "publicKey": "AA==", "message": "AA=="}}}
	response := map[string]any{"type": "touchmark/firmware-response/1", "release": "lamp@1.0", "statement": strings.Repeat("0a", 32), "publicKey": "AA==",
		"signatures": []any{map[string]any{"artefact": "app.bin", "index": 0, "signature": "AA=="}}}
	// An X25519 key: the header of a SubjectPublicKeyInfo (RFC 8410 §4), and any 32 bytes.
	spki := base64.StdEncoding.EncodeToString(append([]byte("\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00"), bytes.Repeat([]byte{9}, 32)...))
	return map[string]attempt{
		"listProducts":         {near: "/products", status: 200},
		"createProduct":        {near: "/products", body: with(product, "name", "new"), status: 201},
		"getProduct":           {near: "/products/lamp", status: 200},
		"replaceProduct":       {near: "/products/lamp", body: with(product, "revision", 3), status: 200},
		"tryRules":             {near: "/products/lamp/rule-trials", body: map[string]any{"rules": []any{map[string]any{"name": "r", "expression": "true", "otherwise": "held"}}}, status: 200},
		"listRuleVersions":     {near: "/products/lamp/rule-versions", status: 200},
		"listSites":            {near: "/sites", status: 200},
		"createSite":           {near: "/sites", body: map[string]any{"name": "new"}, status: 201},
		"getSite":              {near: "/sites/near", far: "/sites/far", status: 200},
		"replaceSite":          {near: "/sites/near", far: "/sites/far", body: map[string]any{"networks": []string{"203.0.113.0/24"}, "revision": 1}, status: 200},
		"listOrders":           {near: "/orders", status: 200},
		"createOrder":          {near: "/orders", body: map[string]any{"name": "new", "product": "lamp", "site": "near", "quantity": 1}, status: 201},
		"getOrder":             {near: "/orders/order-near", far: "/orders/order-far", status: 200},
		"changeOrder":          {near: "/orders/order-near", far: "/orders/order-far", body: map[string]any{"quantity": 7}, status: 200},
		"getApprovalPolicy":    {near: "/approval-policy", status: 200},
		"setApprovalPolicy":    {near: "/approval-policy", body: map[string]any{"cas": 1, "operators": 0}, status: 200},
		"proposeIssuer":        {near: "/issuer-proposals", body: map[string]any{"act": "ca.create", "name": "new", "certificate": issuer, "note": "the plan of 2027"}, status: 201},
		"proposeOperator":      {near: "/operator-proposals", body: map[string]any{"name": "new", "role": "approver", "csr": csr, "note": "carla leaves"}, status: 201},
		"proposeOpening":       {near: "/orders/order-near/opening", far: "/orders/order-far/opening", body: map[string]any{"note": "the customer ordered"}, status: 201},
		"listRaises":           {near: "/orders/order-near/raises", far: "/orders/order-far/raises", status: 200},
		"proposeRaise":         {near: "/orders/order-near/raises", far: "/orders/order-far/raises", body: map[string]any{"quantity": 70, "note": "more"}, status: 201},
		"approveRaise":         {near: "/orders/order-near/raises/51/approve", far: "/orders/order-far/raises/51/approve", body: map[string]any{"quantity": 70, "signature": "AAAA"}, status: 200},
		"listProposals":        {near: "/proposals", status: 200},
		"getProposal":          {near: "/proposals/51", status: 200},
		"getProposalBundle":    {near: "/proposals/51/bundle", status: 200},
		"approveProposal":      {near: "/proposals/51/approvals", body: map[string]any{"signature": "AAAA"}, status: 200},
		"retractApproval":      {near: "/proposals/51/approvals/retract", body: map[string]any{"note": "looked again"}, status: 200},
		"withdrawProposal":     {near: "/proposals/51/withdraw", body: map[string]any{"note": "a mistake"}, status: 200},
		"withdrawRaise":        {near: "/orders/order-near/raises/51/withdraw", far: "/orders/order-far/raises/51/withdraw", body: map[string]any{"note": "a mistake"}, status: 200},
		"handInManifest":       {near: "/orders/order-near/manifests", far: "/orders/order-far/manifests", body: upload, options: []option{header("Content-Type", uploadType)}, status: 201},
		"listManifests":        {near: "/manifests", status: 200},
		"getManifest":          {near: "/manifests/21", far: "/manifests/22", status: 200},
		"proposeManifest":      {near: "/manifests/21/approval", far: "/manifests/22/approval", body: map[string]any{"note": "it expired"}, status: 200},
		"addManifestSignature": {near: "/manifests/21/signatures", far: "/manifests/22/signatures", body: "sig", options: []option{header("Content-Type", "application/pkcs7-signature")}, status: 200},
		"registerDevice":       {near: "/registrations", body: map[string]any{"serial": "1", "csr": csr}, status: 200},
		"listRegistrations":    {near: "/registrations", status: 200},
		"getRegistration":      {near: "/registrations/31", far: "/registrations/32", status: 200},
		"decideRegistration":   {near: "/registrations/31/decision", far: "/registrations/32/decision", body: map[string]any{"admit": true, "note": "looked at it"}, status: 200},
		"listDevices":          {near: "/devices", status: 200},
		"getDevice":            {near: "/devices/11", far: "/devices/12", status: 200},
		"getDeviceHistory":     {near: "/devices/11/history", far: "/devices/12/history", status: 200},
		"setDeviceState":       {near: "/devices/11/state", far: "/devices/12/state", body: map[string]any{"state": "suspended", "note": "lost"}, status: 200},
		"readmitDevice":        {near: "/devices/11/readmit", far: "/devices/12/readmit", body: map[string]any{"note": "lost its key"}, status: 200},
		"reworkDevice":         {near: "/devices/11/rework", far: "/devices/12/rework", body: map[string]any{"note": "board replaced"}, status: 200},
		"scrapRecord":          {near: "/devices/11/scrap", far: "/devices/12/scrap", body: map[string]any{"note": "cracked"}, status: 200},
		"revokeDevice":         {near: "/devices/11/revoke", far: "/devices/12/revoke", body: map[string]any{"reason": "keyCompromise", "note": "leaked"}, status: 200},
		"revokeCertificate":    {near: "/certificates/" + nearCert + "/revoke", far: "/certificates/" + farCert + "/revoke", body: map[string]any{"reason": "superseded", "note": "leaked"}, status: 200},
		"addTestResult":        {near: "/test-results", body: map[string]any{"serial": "S-near", "passed": true}, status: 201},
		"replaceDevice":        {near: "/replacements", body: map[string]any{"serial": "S-near", "by": map[string]any{"serial": "S-near"}, "note": "dead"}, status: 200},
		"listEvidence":         {near: "/evidence", status: 200},
		"clearEvidence":        {near: "/evidence/41/clear", body: map[string]any{"note": "test bench"}, status: 200},
		"reopenEvidence":       {near: "/evidence/41/reopen", body: map[string]any{"note": "it was not"}, status: 200},
		"clearDeviceEvidence":  {near: "/devices/11/evidence/clear", body: map[string]any{"note": "test bench"}, status: 200},
		"reportObservations":   {near: "/observations", body: map[string]any{"observations": []any{map[string]any{"certificate": "0a", "event": "connect", "at": today, "address": "192.0.2.1"}}}, status: 200},
		"createChallenge":      {near: "/challenges", body: map[string]any{"device": 11}, status: 201},
		"getChallenge":         {near: "/challenges/51", far: "/challenges/52", status: 200},
		"answerChallenge":      {near: "/challenges/51/answer", far: "/challenges/52/answer", body: map[string]any{"signature": "AAAA"}, status: 200},
		"verifyDevice":         {near: "/verify", body: map[string]any{"serial": "S-near"}, status: 200},
		"getCertificate":       {near: "/certificates/" + nearCert, far: "/certificates/" + farCert, status: 200},
		"getCertificateProof":  {near: "/certificates/" + nearCert + "/proof", far: "/certificates/" + farCert + "/proof", status: 200},
		"planJob":              {near: "/jobs", body: map[string]any{"action": "suspend", "note": "recall", "selected": map[string]any{"order": "order-near"}}, status: 201},
		"confirmJob":           {near: "/jobs/51/confirm", body: map[string]any{"digest": "aa"}, status: 200},
		"cancelJob":            {near: "/jobs/51/cancel", body: map[string]any{"note": "stop"}, status: 200},
		"resumeJob":            {near: "/jobs/51/resume", body: map[string]any{"note": "go on"}, status: 200},
		"listJobs":             {near: "/jobs", status: 200},
		"getJob":               {near: "/jobs/51", status: 200},
		"listJobDevices":       {near: "/jobs/51/devices", status: 200},
		"createCodes":          {near: "/codes", body: map[string]any{"order": "order-near", "expires": today.AddDate(0, 1, 0)}, status: 201},
		"createAccountKey":     {near: "/account-keys", body: map[string]any{"order": "order-near", "expires": today.AddDate(0, 1, 0)}, status: 201},
		"listAccountKeys":      {near: "/account-keys", status: 200},
		"getAccountKey":        {near: "/account-keys/51", far: "/account-keys/52", status: 200},
		"revokeAccountKey":     {near: "/account-keys/51/revoke", far: "/account-keys/52/revoke", status: 200},
		"giveLicences":         {near: "/licences", body: map[string]any{"order": "order-near", "uid": "01"}, status: 200},
		"confirmLicences":      {near: "/licences/confirm", body: map[string]any{"uid": "01"}, status: 200},
		"listLicences":         {near: "/licences", status: 200},
		"getLicence":           {near: "/licences/a1", far: "/licences/a2", status: 200},
		"listLicenceKeys":      {near: "/products/lamp/licence-keys", status: 200},
		"createLicenceKey":     {near: "/products/lamp/licence-keys", body: map[string]any{}, status: 201},
		"useLicenceKey":        {near: "/products/lamp/licence-keys/1/use", status: 200},
		"listCodes":            {near: "/codes", status: 200},
		"getCode":              {near: "/codes/51", far: "/codes/52", status: 200},
		"revokeCode":           {near: "/codes/51/revoke", far: "/codes/52/revoke", status: 200},
		"revokeCodes":          {near: "/code-batches/51/revoke", far: "/code-batches/52/revoke", status: 200},
		"listEvents":           {near: "/events", status: 200},
		"listWebhooks":         {near: "/webhooks", status: 200},
		"createWebhook":        {near: "/webhooks", body: map[string]any{"name": "new", "url": "https://a.example/"}, status: 201},
		"getWebhook":           {near: "/webhooks/erp", status: 200},
		"testWebhook":          {near: "/webhooks/erp/test", status: 200},
		"updateWebhook":        {near: "/webhooks/erp", body: map[string]any{"url": "https://erp.example/", "revision": 1}, status: 200},
		"pauseWebhook":         {near: "/webhooks/erp/pause", body: map[string]any{"reason": "maintenance"}, status: 200},
		"resumeWebhook":        {near: "/webhooks/erp/resume", status: 200},
		"rotateWebhookSecret":  {near: "/webhooks/erp/secret", body: map[string]any{}, status: 200},
		"deleteWebhook":        {near: "/webhooks/waste", status: 200},
		"listFirmwareKeys":     {near: "/firmware-keys", status: 200},
		"getFirmwareKey":       {near: "/firmware-keys/lamp-1", status: 200},
		"createFirmwareKey":    {near: "/firmware-keys", body: map[string]any{"name": "lamp-2", "product": "lamp", "stage": "test", "kind": "P-256"}, status: 201},
		"importFirmwareKey":    {near: "/firmware-keys/import", body: map[string]any{"name": "lamp-3", "product": "lamp", "csr": csr}, status: 201},
		"importSignatures":     {near: "/releases/61/signatures", body: response, status: 200},
		"getTUFRepository":     {near: "/tuf", status: 200},
		"createTUFKey":         {near: "/tuf/keys", body: map[string]any{"role": "targets", "number": 1, "kind": "P-256"}, status: 201},
		"importTUFRoot":        {near: "/tuf/roots", body: map[string]any{"content": []byte("{}")}, status: 200},
		"listReleases":         {near: "/releases", status: 200},
		"getRelease":           {near: "/releases/61", status: 200},
		"createRelease":        {near: "/releases", body: map[string]any{"product": "lamp", "version": "1.0", "counter": 1, "supportEnd": "2031-12-31"}, status: 201},
		"publishRelease":       {near: "/releases/61/publish", status: 200},
		"getStatement":         {near: "/releases/61/statement", status: 200},
		"signStatement":        {near: "/releases/61/statement/sign", status: 200},
		"addArtefact":          {near: "/releases/61/artefacts", body: artefact, status: 201},
		"getArtefact":          {near: "/artefacts/62", status: 200},
		"signArtefact":         {near: "/artefacts/62/sign", status: 200},
		"keepChecks":           {near: "/artefacts/62/checks", body: map[string]any{"signed": file, "checks": []any{map[string]any{"program": "openssl"}}}, status: 200},
		"getContentKey":        {near: "/firmware-content-key", status: 200},
		"keepContent":          {near: "/artefacts/62/content", body: map[string]any{"signed": file, "checks": []any{map[string]any{"program": "openssl"}}, "sealed": map[string]any{"key": strings.Repeat("0a", 32), "hash": "SHA-256", "wrapped": "AA==", "box": "AA=="}}, status: 200},
		"wrapArtefact":         {near: "/artefacts/62/wraps", body: map[string]any{"family": true}, status: 200},
		"listWraps":            {near: "/artefacts/62/wraps", status: 200},
		"listRecipients":       {near: "/products/lamp/firmware/recipients", status: 200},
		"addFamilyKey":         {near: "/products/lamp/firmware/family-keys", body: map[string]any{"name": "lamp-family", "publicKey": spki}, status: 201},
		"addDeviceKey":         {near: "/products/lamp/firmware/device-keys", body: map[string]any{"serial": "S-near", "publicKey": spki}, status: 201},
		"revokeRecipient":      {near: "/firmware-recipients/63/revoke", body: map[string]any{"note": "it leaked"}, status: 200},
		"attachDocument":       {near: "/releases/61/documents", body: map[string]any{"content": []byte(`{"bomFormat":"CycloneDX"}`)}, status: 200},
		"getDocument":          {near: "/releases/61/documents/00", status: 200},
		"submitRelease":        {near: "/releases/61/submit", body: map[string]any{"note": "it is ready"}, status: 200},
		"yankRelease":          {near: "/releases/61/yank", body: map[string]any{"note": "it burns"}, status: 202},
		"getYankImpact":        {near: "/releases/61/yank-impact", status: 200},
		"revokeFirmwareKey":    {near: "/firmware-keys/lamp-1/revoke", body: map[string]any{"note": "it leaked"}, status: 200},
		"getKeyImpact":         {near: "/firmware-keys/lamp-1/impact", status: 200},
		"getFirmwarePolicy":    {near: "/products/lamp/firmware", status: 200},
		"setFirmwareApprovals": {near: "/products/lamp/firmware/approvals", body: map[string]any{"approvals": 2}, status: 200},
		"raiseFloor":           {near: "/products/lamp/firmware/floor", body: map[string]any{"floor": 3, "note": "a hole"}, status: 202},
		"getFloorImpact":       {near: "/products/lamp/firmware/floor-impact?floor=3", status: 200},
		"reportFirmware":       {near: "/firmware-reports", body: map[string]any{"device": 11, "version": "1.0", "counter": 1, "at": today}, status: 200},
		"listOwners":           {near: "/owners", status: 200},
		"createOwner":          {near: "/owners", body: map[string]any{"name": "new", "profile": map[string]any{"validity": "10d"}}, status: 201},
		"getOwner":             {near: "/owners/acme", far: "/owners/beta", status: 200},
		"setOwnerIssuer":       {near: "/owners/acme/issuer", body: map[string]any{"issuer": "acme-ca"}, status: 200},
		"listIssuers":          {near: "/issuers", status: 200},
		"listOfflineFiles":     {near: "/issuers/acme-ca/offline-files", status: 200},
		"makeOfflineFile":      {near: "/issuers/acme-ca/offline-files", body: map[string]any{"kind": "base"}, status: 202},
		"listCRLs":             {near: "/issuers/device-ca/crls", status: 200},
		"makeCRLs":             {near: "/issuers/device-ca/crls", status: 200},
		"listCRLPartitions":    {near: "/issuers/device-ca/crl-partitions", status: 200},
		"endCRLPartitions":     {near: "/issuers/device-ca/crl-partitions/16", status: 200},
		"createIssuer":         {near: "/issuers", body: map[string]any{"name": "new", "certificate": issuer}, status: 201},
		"getIssuer":            {near: "/issuers/acme-ca", status: 200},
		"setDefaultIssuer":     {near: "/issuers/acme-ca/default", status: 200},
		"closeIssuer":          {near: "/issuers/acme-ca/close", status: 200},
		"reopenIssuer":         {near: "/issuers/acme-ca/reopen", status: 200},
		"renewIssuer":          {near: "/issuers/acme-ca/certificate", body: map[string]any{"certificate": issuer}, status: 200},
		"certifyResponder":     {near: "/issuers/acme-ca/responders", body: map[string]any{"csr": csr}, status: 200},
		"reportForgeries":      {near: "/issuers/acme-ca/forgeries", body: map[string]any{"serials": []string{"01"}}, status: 200},
		"listTransfers":        {near: "/transfers", status: 200},
		"getTransfer":          {near: "/transfers/72", far: "/transfers/73", status: 200},
		"listTransferDevices":  {near: "/transfers/72/devices", far: "/transfers/73/devices", status: 200},
		"offerTransfer":        {near: "/transfers", body: map[string]any{"to": "beta", "serials": []string{"S-near"}}, status: 201},
		"acceptTransfer":       {near: "/transfers/72/accept", far: "/transfers/73/accept", body: map[string]any{}, status: 200},
		"declineTransfer":      {near: "/transfers/72/decline", far: "/transfers/73/decline", body: map[string]any{}, status: 200},
		"withdrawTransfer":     {near: "/transfers/74/withdraw", far: "/transfers/75/withdraw", body: map[string]any{}, status: 200},
		"createVoucher":        {near: "/vouchers", body: map[string]any{"device": 11, "pinnedDomainCert": issuer}, status: 201},
		"getVoucher":           {near: "/transfers/72/voucher", far: "/transfers/73/voucher", status: 200},
		"reverseTransfer":      {near: "/transfers/72/reverse", body: map[string]any{"note": "not paid"}, status: 200},
		"listOperators":        {near: "/operators", status: 200},
		"createOperator":       {near: "/operators", body: map[string]any{"name": "new", "role": "support", "csr": csr}, status: 201},
		"createWorkload":       {near: "/workloads", body: map[string]any{"name": "ci", "role": "release-engineer", "trust": map[string]any{"issuer": "https://ci.example", "audience": "x", "claims": map[string]any{"project": "lamp"}}}, status: 201},
		"getOperator":          {near: "/operators/planner", status: 200},
		"revokeOperator":       {near: "/operators/support/revoke", status: 200},
		"renewOperator":        {near: "/operators/support/certificate", body: map[string]any{"csr": csr}, status: 200},
		"renewOwn":             {near: "/whoami/certificate", body: map[string]any{"csr": csr}, status: 200},
		"whoami":               {near: "/whoami", status: 200},
	}
}

// who is the permission of every route, written down a second time: a change
// of either needs the other.
var who = map[string]access.Permission{
	"listProducts": access.ReadProduction, "createProduct": access.PlanProduction, "getProduct": access.ReadProduction, "replaceProduct": access.PlanProduction, "tryRules": access.PlanProduction, "listRuleVersions": access.ReadProduction,
	"listSites": access.ReadProduction, "createSite": access.PlanProduction, "getSite": access.ReadProduction, "replaceSite": access.PlanProduction,
	"listOrders": access.ReadProduction, "createOrder": access.PlanProduction, "getOrder": access.ReadProduction, "changeOrder": access.PlanProduction,
	"handInManifest": access.HandInManifests, "listManifests": access.ReadManifests, "getManifest": access.ReadManifests, "addManifestSignature": access.HandInManifests, "proposeManifest": access.HandInManifests,
	"registerDevice": access.RegisterDevices, "listRegistrations": access.ReadDevices, "getRegistration": access.ReadDevices, "decideRegistration": access.Decide,
	"listDevices": access.ReadDevices, "getDevice": access.ReadDevices, "getDeviceHistory": access.ReadDevices, "setDeviceState": access.ManageDevices, "reworkDevice": access.ManageDevices, "readmitDevice": access.ManageDevices,
	"scrapRecord": access.ScrapRecords, "revokeDevice": access.ManageDevices, "revokeCertificate": access.ManageDevices,
	"listRaises": access.ReadProduction, "proposeOpening": access.PlanProduction, "getApprovalPolicy": access.ReadProposals, "setApprovalPolicy": access.ManageOperators, "proposeIssuer": access.ManageIssuers, "proposeOperator": access.ManageOperators, "proposeRaise": access.PlanProduction, "approveRaise": access.PlanProduction, "withdrawRaise": access.PlanProduction,
	"listProposals": access.ReadProposals, "getProposal": access.ReadProposals, "getProposalBundle": access.ReadProposals,
	"approveProposal": access.Approve, "retractApproval": access.Approve, "withdrawProposal": access.Approve,
	"addTestResult": access.TestDevices, "replaceDevice": access.TestDevices,
	"planJob": access.ManageDevices, "confirmJob": access.ManageDevices, "cancelJob": access.ManageDevices, "resumeJob": access.ManageDevices,
	"listJobs": access.ReadAudit, "getJob": access.ReadAudit, "listJobDevices": access.ReadAudit,
	"listEvidence": access.ReadDevices, "clearEvidence": access.ClearEvidence, "reopenEvidence": access.ClearEvidence, "clearDeviceEvidence": access.ClearEvidence,
	"reportObservations": access.ReportObservations, "verifyDevice": access.VerifyDevices, "createChallenge": access.VerifyDevices, "getChallenge": access.VerifyDevices, "answerChallenge": access.VerifyDevices,
	"getCertificate": access.ReadDevices, "getCertificateProof": access.ReadDevices,
	"createAccountKey": access.MakeCodes, "listAccountKeys": access.ReadCodes, "getAccountKey": access.ReadCodes, "revokeAccountKey": access.MakeCodes,
	"createCodes": access.MakeCodes, "listCodes": access.ReadCodes, "getCode": access.ReadCodes, "revokeCode": access.MakeCodes, "revokeCodes": access.MakeCodes,
	"giveLicences": access.LicenseChips, "confirmLicences": access.LicenseChips, "listLicences": access.ReadLicences, "getLicence": access.ReadLicences,
	"listLicenceKeys": access.ReadLicences, "createLicenceKey": access.ManageLicenceKeys, "useLicenceKey": access.ManageLicenceKeys,
	"listEvents": access.ReadDevices, "listWebhooks": access.ReadAudit, "getWebhook": access.ReadAudit, "createWebhook": access.ManageWebhooks, "testWebhook": access.ManageWebhooks,
	"updateWebhook": access.ManageWebhooks, "pauseWebhook": access.ManageWebhooks, "resumeWebhook": access.ManageWebhooks, "rotateWebhookSecret": access.ManageWebhooks, "deleteWebhook": access.ManageWebhooks,
	"listOwners": access.ReadOwners, "createOwner": access.ManageOwners, "getOwner": access.ReadOwners,
	"listOfflineFiles": access.ReadAudit, "makeOfflineFile": access.ManageDevices,
	"listIssuers": access.ReadAudit, "createIssuer": access.ManageIssuers, "getIssuer": access.ReadAudit, "renewIssuer": access.ManageIssuers,
	"listCRLs": access.ReadAudit, "makeCRLs": access.ManageDevices, "listCRLPartitions": access.ReadAudit, "endCRLPartitions": access.ManageDevices,
	"setDefaultIssuer": access.ManageIssuers, "closeIssuer": access.ManageIssuers, "reopenIssuer": access.ManageIssuers, "setOwnerIssuer": access.ManageOwners,
	"listFirmwareKeys": access.ReadReleases, "getFirmwareKey": access.ReadReleases, "createFirmwareKey": access.ManageFirmwareKeys, "importFirmwareKey": access.ManageFirmwareKeys, "importSignatures": access.SignFirmware,
	"getTUFRepository": access.ReadReleases, "createTUFKey": access.ManageFirmwareKeys, "importTUFRoot": access.ManageFirmwareKeys,
	"listReleases": access.ReadReleases, "getRelease": access.ReadReleases, "createRelease": access.SignFirmware, "publishRelease": access.SignFirmware,
	"getStatement": access.ReadReleases, "signStatement": access.SignFirmware,
	"addArtefact": access.SignFirmware, "getArtefact": access.ReadReleases, "signArtefact": access.SignFirmware, "keepChecks": access.SignFirmware,
	"getContentKey": access.SignFirmware, "keepContent": access.SignFirmware, "wrapArtefact": access.SignFirmware, "listWraps": access.ReadReleases,
	"listRecipients": access.ReadReleases, "addFamilyKey": access.ManageFirmwareKeys, "addDeviceKey": access.SignFirmware, "revokeRecipient": access.SignFirmware,
	"attachDocument": access.SignFirmware, "getDocument": access.ReadReleases, "submitRelease": access.SignFirmware, "yankRelease": access.SignFirmware, "getYankImpact": access.ReadReleases,
	"revokeFirmwareKey": access.SignFirmware, "getKeyImpact": access.ReadReleases, "getFirmwarePolicy": access.ReadReleases, "setFirmwareApprovals": access.ManageFirmwareKeys,
	"raiseFloor": access.SignFirmware, "getFloorImpact": access.ReadReleases, "reportFirmware": access.ReportObservations,
	"certifyResponder": access.AnswerStatus, "reportForgeries": access.AnswerStatus,
	"listTransfers": access.ReadOwners, "getTransfer": access.ReadOwners, "listTransferDevices": access.ReadOwners,
	"offerTransfer": access.TransferDevices, "acceptTransfer": access.TransferDevices, "declineTransfer": access.TransferDevices, "withdrawTransfer": access.TransferDevices, "reverseTransfer": access.ManageOwners, "createVoucher": access.ManageOwners, "getVoucher": access.ReadOwners,
	"listOperators": access.ReadAudit, "createOperator": access.ManageOperators, "createWorkload": access.ManageOperators, "getOperator": access.ReadAudit, "revokeOperator": access.ManageOperators, "renewOperator": access.ManageOperators,
	"renewOwn": api.AnyOperator, "whoami": api.AnyOperator,
}

// hidden are the things of a device's manufacture, which an owner's operators
// see nothing of, although the permission to read devices covers them.
var hidden = map[string]bool{"getRegistration": true}

// TestRolesSitesAndOwners tries every route as every role, on things of the
// operator's own site or owner and of another one.
func TestRolesSitesAndOwners(t *testing.T) {
	routes := newWorld(t).api.Routes()
	if len(routes) != len(who) {
		t.Errorf("the API has %d routes, the table %d", len(routes), len(who))
	}
	for _, role := range access.Roles {
		t.Run(string(role), func(t *testing.T) {
			w := newWorld(t) // each role finds things as they were
			w.enroller.out.Verdict = vetting.Refused
			for _, r := range routes {
				tryRoute(t, w, role, r)
			}
		})
	}
}

func tryRoute(t *testing.T, w *world, role access.Role, r api.Route) {
	t.Helper()
	a, ok := attempts(t)[r.ID]
	if !ok || who[r.ID] != r.Permission {
		t.Fatalf("route %s (%s) is not in the table, or with another permission", r.ID, r.Permission)
	}
	op := &access.Operator{Role: role}
	may := r.Permission == api.AnyOperator || op.May(r.Permission)
	if r.ID == "approveProposal" || r.ID == "withdrawProposal" {
		may = op.MayApprove(approval.OrderRaise) // which is what the memory's is
	}
	before := len(w.store.acted) + len(w.importer.acts) + len(w.enroller.got)
	if a.far != "" {
		got := w.as(string(role), r.Method, a.far, a.body, a.options...)
		switch {
		case !may:
			refused(t, got, http.StatusForbidden, string(role), string(r.Permission))
		case !role.OfManufacturer():
			refused(t, got, http.StatusNotFound, "there is no")
		default:
			decode[any](t, got, a.status)
			before = len(w.store.acted) + len(w.importer.acts) + len(w.enroller.got)
		}
	}
	if !may {
		refused(t, w.as(string(role), r.Method, a.near, a.body, a.options...), http.StatusForbidden)
	}
	if after := len(w.store.acted) + len(w.importer.acts) + len(w.enroller.got); after != before {
		t.Errorf("%s as %s was refused, but something was done", r.ID, role)
	}
	switch near := func() reply { return w.as(string(role), r.Method, a.near, a.body, a.options...) }; {
	case may && role.OfOwner() && hidden[r.ID]:
		refused(t, near(), http.StatusNotFound, "there is no")
	case may:
		decode[any](t, near(), a.status)
	}
}

// TestListsAreConfined asks for lists as a site operator, with and without a
// filter that names another site.
func TestListsAreConfined(t *testing.T) {
	w := newWorld(t)
	type anything map[string]any
	for path, near := range map[string]string{
		"/sites": `"near"`, "/orders": `"order-near"`, "/manifests": `"id":21`,
		"/registrations": `"id":31`, "/devices": `"id":11`, "/evidence": `"id":41`, "/licences": `"uid":"a1"`,
	} {
		own := w.as("site-operator", "GET", path, nil)
		if l := decode[api.List[anything]](t, own, 200); len(l.Items) != 1 || !strings.Contains(own.body, near) {
			t.Errorf("%s shows a site operator %s", path, own.body)
		}
		if l := decode[api.List[anything]](t, w.as("planner", "GET", path, nil), 200); len(l.Items) != 2 {
			t.Errorf("%s shows a planner %d entries, want 2", path, len(l.Items))
		}
		if path == "/sites" {
			continue
		}
		far := w.as("site-operator", "GET", path+"?site=far", nil)
		if l := decode[api.List[anything]](t, far, 200); len(l.Items) != 0 || !strings.Contains(far.body, `"items":[]`) {
			t.Errorf("%s?site=far shows a site operator %s", path, far.body)
		}
		if l := decode[api.List[anything]](t, w.as("planner", "GET", path+"?site=far", nil), 200); len(l.Items) != 1 {
			t.Errorf("%s?site=far shows a planner %d entries, want 1", path, len(l.Items))
		}
	}
}

// TestOthersLookUnknown compares, byte by byte, the answers for what belongs
// to another site and for what does not exist.
func TestOthersLookUnknown(t *testing.T) {
	w := newWorld(t)
	for _, pair := range [][2]string{
		{"/sites/far", "/sites/zzz"}, {"/orders/order-far", "/orders/order-zzz"}, {"/manifests/22", "/manifests/99"},
		{"/registrations/32", "/registrations/99"}, {"/devices/12", "/devices/99"}, {"/devices/12/history", "/devices/99/history"},
		{"/certificates/0a12", "/certificates/0a99"}, {"/certificates/0a12/proof", "/certificates/0a99/proof"},
	} {
		there, not := w.as("site-operator", "GET", pair[0], nil), w.as("site-operator", "GET", pair[1], nil)
		name := func(p string) string { return strings.Split(p, "/")[2] }
		if a, b := strings.ReplaceAll(there.body, name(pair[0]), "X"), strings.ReplaceAll(not.body, name(pair[1]), "X"); a != b || there.status != 404 || not.status != 404 {
			t.Errorf("%s: %s\n%s: %s", pair[0], there.body, pair[1], not.body)
		}
	}
}

// TestWhatSitesSeeOfOthers is about objects that tell of two sites at once.
func TestWhatSitesSeeOfOthers(t *testing.T) {
	w := newWorld(t)
	w.store.histories[nearDevice] = &vetting.History{
		Device: *w.store.devices[0],
		Disputes: []*vetting.Dispute{
			{ID: 1, Record: vetting.Record{SiteID: 1}},
			{ID: 2, Record: vetting.Record{SiteID: 2, Made: vetting.Manufacturing{Line: "far's secret line"}}},
		},
	}
	if h := decode[vetting.History](t, w.as("site-operator", "GET", "/devices/11/history", nil), 200); len(h.Disputes) != 1 || h.Disputes[0].ID != 1 {
		t.Errorf("a site operator sees the disputes %v", h.Disputes)
	}
	if h := decode[vetting.History](t, w.as("planner", "GET", "/devices/11/history", nil), 200); len(h.Disputes) != 2 {
		t.Errorf("a planner sees the disputes %v", h.Disputes)
	}

	// A registration that belongs to no site is headquarters' affair, and so
	// is one that a rig made of a device of another site.
	rig := vetting.Claim{Auth: vetting.Auth{Proof: vetting.ProofRig, Operator: "rig", Site: "near"}}
	w.store.registrations = append(w.store.registrations,
		&vetting.Registration{ID: 51, Claim: rig, Outcome: vetting.Refused, Site: "near"},
		&vetting.Registration{ID: 52, Claim: rig, Outcome: vetting.Refused, DeviceID: farDevice, Site: "far"},
		&vetting.Registration{ID: 53, Outcome: vetting.Refused})
	for id, status := range map[int]int{51: 200, 52: 404, 53: 404} {
		if got := w.as("rig", "GET", fmt.Sprintf("/registrations/%d", id), nil); got.status != status {
			t.Errorf("registration %d: status %d, want %d", id, got.status, status)
		}
	}

	// A manifest that is being received does not exist for anybody.
	w.store.manifests = append(w.store.manifests, &vetting.Manifest{ID: 60, Site: "near", State: vetting.ManifestReceiving})
	refused(t, w.as("admin", "GET", "/manifests/60", nil), 404)
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t)
	year := today.AddDate(1, 0, 0)
	gone := w.addOperator("gone", access.RolePlanner)
	gone.Revoked = today.Add(-time.Hour)
	homeless := w.addOperator("homeless", access.RoleRig)
	homeless.Site = ""
	disowned := w.addOperator("disowned", access.RoleOwnerOperator)
	disowned.Owner = ""
	planner := w.addOperator("planner2", access.RolePlanner)
	foreign := newAuthority(t, "operator CA") // the same name, another key
	swap := func(ca *authority, op *access.Operator, end time.Time) *http.Client {
		key := newKey(t)
		cert := ca.issue(t, op.Name, key, end)
		op.Key = vetting.KeyFingerprint(parse(t, cert.Certificate[0]).RawSubjectPublicKeyInfo)
		return w.with(&cert)
	}
	usages := func(usage ...x509.ExtKeyUsage) *http.Client {
		cert := w.office.issue(t, "planner", newKey(t), year, usage...)
		return w.with(&cert)
	}
	stranger := w.office.issue(t, "planner", newKey(t), year)

	for name, c := range map[string]struct {
		client *http.Client
		words  string
	}{
		"no certificate":       {w.client(""), "no client certificate"},
		"server certificate":   {usages(x509.ExtKeyUsageServerAuth), "clientAuth"},
		"no usage":             {usages(x509.ExtKeyUsageEmailProtection), "clientAuth"},
		"unknown key":          {w.with(&stranger), "belongs to no operator"},
		"revoked":              {w.client("gone"), "revoked"},
		"rig without a site":   {w.client("homeless"), "no site"},
		"owner's, of nobody":   {w.client("disowned"), "no owner"},
		"expired":              {swap(w.office, w.addOperator("late", access.RolePlanner), today.Add(-time.Minute)), "expired"},
		"foreign CA":           {swap(foreign, w.addOperator("alien", access.RolePlanner), year), "not accepted"},
		"factory CA's planner": {swap(w.plant, planner, year), "does not fit the role planner"},
		"operator CA's rig":    {swap(w.office, w.addOperator("rig2", access.RoleRig), year), "does not fit the role rig"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(c.client, "GET", api.Base+"/whoami", nil)
			refused(t, got, http.StatusUnauthorized, c.words)
			if got.header.Get("WWW-Authenticate") == "" {
				t.Error("no challenge in WWW-Authenticate")
			}
		})
	}
	if n := len(w.store.acted); n != 0 {
		t.Errorf("%d acts were done", n)
	}
}

// TestRevocationIsImmediate keeps a connection open over a revocation.
func TestRevocationIsImmediate(t *testing.T) {
	w := newWorld(t)
	c := w.client("support")
	decode[api.Whoami](t, w.do(c, "GET", api.Base+"/whoami", nil), 200)
	decode[access.Operator](t, w.as("admin", "POST", "/operators/support/revoke", nil), 200)
	refused(t, w.do(c, "GET", api.Base+"/whoami", nil), 401, "revoked")
	refused(t, w.as("admin", "POST", "/operators/admin/revoke", nil), 409, "itself")
}

func TestWhoami(t *testing.T) {
	w := newWorld(t)
	me := decode[api.Whoami](t, w.as("rig", "GET", "/whoami", nil), 200)
	want := []access.Permission{access.ReadProduction, access.RegisterDevices, access.ReadDevices, access.TestDevices, access.VerifyDevices, access.ReadParticulars, access.LicenseChips, access.ReadLicences}
	if me.Operator.Name != "rig" || me.Operator.Site != "near" || !slices.Equal(me.Permissions, want) {
		t.Errorf("got %+v", me)
	}
}
