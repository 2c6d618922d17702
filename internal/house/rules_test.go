package house

import (
	"slices"
	"strings"
)

// rules is who may import whom. Packages of this module are written without
// the module's path ("vetting/manifest"), others with theirs. A name stands
// for the package and all below it, "=" before it for the package alone.
var rules = []rule{
	{
		name: "the device side shares nothing with the server",
		from: []string{"device", "devicesim", "cmd/devicesim", "cmd/touchmark-agent"},
		only: []string{"device", "devicesim", "internal/swtpm"},
		why: "a codec that both ends share hides its own bugs, and devicesim must prove that a stranger's client works; " +
			"write the device's side of the bytes in device/ again (internal/swtpm is a TPM for tests, and no codec)",
		tests: true,
	},
	{
		name: "device knows no simulator",
		from: []string{"device", "cmd/touchmark-agent"},
		not:  []string{"devicesim", "cmd"},
		why:  "device is what runs on real devices, and the agent with it; fleets and misbehaviour are devicesim's business",
	},
	{
		name:   "nothing of the server imports the device side",
		from:   []string{""},
		except: []string{"device", "devicesim", "cmd/devicesim", "cmd/touchmark-agent", "bench", "e2e", "docs"},
		not:    []string{"device", "devicesim"},
		why:    "what the server says on the wire is checked by bytes and by foreign clients, not by our own client",
		tests:  true,
	},
	{
		name: "a software TPM knows neither side",
		from: []string{"internal/swtpm"},
		only: []string{},
		why:  "tests of the device and of the server use it; whatever it shared with one of them, it would carry to the other",
	},
	{
		name:   "software TPMs are for tests",
		from:   []string{""},
		except: []string{"bench", "enroll/attest/attesttest"},
		not:    []string{"internal/swtpm"},
		why:    "it starts a program that no device and no server has, and imports testing",
	},
	{
		name:   "packets of MQTT are written by hand for tests alone",
		from:   []string{""},
		except: []string{"bench"},
		not:    []string{"internal/mqtttest"},
		why:    "it trusts what it reads; the server has internal/broker and internal/cluster, the device a client of its own",
	},
	{
		name: "vetting stands alone",
		from: []string{"=vetting"},
		only: []string{},
		why:  "vetting is the vocabulary that every other package speaks; it can depend on none of them",
	},
	{
		name: "vetting is pure",
		from: []string{"=vetting"},
		not:  []string{"=os", "os/exec", "=net", "net/http", "net/mail", "net/rpc", "net/smtp", "net/textproto", "net/url", "database/sql", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"},
		why:  "Judge is a function of facts alone, so that it can be run again over history; what touches the world belongs outside (net/netip is no more than a value)",
	},
	{
		name: "subjects do not know each other",
		from: []string{"vetting"},
		not:  []string{"enroll", "ocsp", "firmware-sign", "site", "server", "internal/store", "internal/ca", "internal/keys"},
		why:  "vetting, ocsp and firmware-sign are subjects of their own; enrolment and the server put them together",
	},
	{
		name: "ocsp knows no other subject",
		from: []string{"ocsp"},
		not:  []string{"enroll", "vetting", "firmware-sign", "site", "server", "internal/store"},
		why:  "an OCSP node runs with nothing but the revoked serials; it must not drag vetting along",
	},
	{
		name:  "the offline reader needs nothing",
		from:  []string{"=ocsp/offline"},
		not:   []string{"github.com", "golang.org", "google.golang.org", "go.step.sm", "gopkg.in", "net", "os"},
		only:  []string{},
		why:   "gateways and brokers embed it: bytes and a certificate go in, an answer comes out, with the standard library alone",
		tests: true,
	},
	{
		name: "firmware-sign knows no other subject",
		from: []string{"firmware-sign"},
		not:  []string{"enroll", "vetting", "ocsp", "site", "server", "internal/store"},
		why:  "signing firmware is usable as a library without the rest of Touchmark",
	},
	{
		name: "the pipeline knows no wire and no database",
		from: []string{"=enroll"},
		only: []string{"vetting", "internal/access"},
		why:  "enrolment is the same over every protocol: wire adapters come in as a Request, the store as a Ledger, the CA as an Issuer; operators are known because a rig is one",
	},
	{
		name: "licensing knows no wire and no database",
		from: []string{"=licensing"},
		only: []string{"firmware-sign/licence", "vetting", "internal/access"},
		why:  "it puts a ledger and keys together, which it declares itself; the API turns bytes into its calls, the store keeps what it does",
	},
	{
		name: "the pipeline does not speak HTTP",
		from: []string{"=enroll", "vetting"},
		not:  []string{"net/http", "github.com/danielgtaylor/huma"},
		why:  "answers of a protocol are made at its edge, in one place: enroll/est, server/api",
	},
	{
		name: "a wire adapter only turns bytes into a Claim and an Outcome into bytes",
		from: []string{"enroll/est", "enroll/rest", "enroll/acme", "enroll/mqtt"},
		not:  []string{"internal/store", "internal/ca", "internal/keys", "internal/audit", "server"},
		why:  "an adapter that reaches past enroll can issue or record what was never judged",
	},
	{
		name: "wire adapters do not know each other",
		from: []string{"enroll/est", "enroll/rest"},
		not:  []string{"enroll/acme", "enroll/mqtt"},
		why:  "what two protocols share belongs in enroll",
	},
	{
		name:   "only the server and its program open the store",
		from:   []string{""},
		except: []string{"server", "cmd/touchmark", "internal/store", "bench", "e2e"},
		not:    []string{"internal/store"},
		why:    "everyone else declares the few methods it needs, beside the code that needs them; so each contract is small and can be faked to fail",
	},
	{
		name:  "the API knows no store",
		from:  []string{"server/api"},
		not:   []string{"internal/store"},
		why:   "the API declares the narrow interfaces it needs; server wires the store in",
		tests: true,
	},
	{
		name: "the store knows no protocol",
		from: []string{"internal/store"},
		not:  []string{"server", "enroll/est", "enroll/rest", "enroll/acme", "enroll/mqtt", "internal/keys", "internal/ca", "net/http"},
		why:  "the store implements what others declare; it neither answers requests nor signs",
	},
	{
		name:   "SQL stays in the store",
		from:   []string{""},
		except: []string{"internal/store", "bench", "e2e"},
		not:    []string{"database/sql", "modernc.org/sqlite", "github.com/jackc", "github.com/pressly/goose"},
		why:    "SQLite and PostgreSQL must differ in one place only; a query elsewhere escapes the conformance suite",
		tests:  true,
	},
	{
		name:   "Redis and the MQTT client stay in the cluster package",
		from:   []string{""},
		except: []string{"internal/cluster"},
		not:    []string{"github.com/redis/go-redis", "github.com/eclipse/paho.mqtt.golang"},
		why:    "losing them loses speed, never data; that holds only if one package talks to them",
		tests:  true,
	},
	{
		name:   "the broker in the process stays in one package",
		from:   []string{""},
		except: []string{"internal/broker"},
		not:    []string{"github.com/mochi-mqtt/server"},
		why:    "its defaults are too generous for an open port: internal/broker bounds them, and decides who may publish and read what",
		tests:  true,
	},
	{
		name: "the broker knows no enrolment",
		from: []string{"internal/broker"},
		only: []string{"vetting"},
		why:  "it carries messages and asks a Door; what they mean is the business of enroll/mqtt",
	},
	{
		name:   "private keys are opened in one place",
		from:   []string{""},
		except: []string{"internal/keys", "device"},
		not:    []string{"go.step.sm/crypto/kms"},
		why:    "everyone else gets a crypto.Signer, so that any key can sit in an HSM or KMS and no other code can leak one",
	},
	{
		name:   "the structures of TPMs are read in one place",
		from:   []string{""},
		except: []string{"internal/keys", "device", "enroll/attest", "internal/swtpm"},
		not:    []string{"github.com/google/go-tpm"},
		why:    "a TPM is reached through internal/keys on the server and device on a device; what a device's TPM says comes from outside, and enroll/attest bounds it before go-tpm sees it",
	},
	{
		name: "what a TPM says is no protocol's",
		from: []string{"=enroll/attest"},
		only: []string{"enroll", "vetting", "vetting/vendorid"},
		why:  "EST, MQTT and ACME carry the same statements; they are judged in one place, and stored by none of them",
	},
	{
		name:   "CMS goes through the guard",
		from:   []string{""},
		except: []string{"internal/cms", "enroll/est", "device", "devicesim"},
		not:    []string{"go.mozilla.org/pkcs7", "github.com/smallstep/pkcs7"},
		why:    "both libraries take quadratic time on nested BER and finally overflow the stack, which ends the process; internal/cms caps size and depth first (enroll/est only writes certs-only answers)",
	},
	{
		name:   "smallstep's ACME stays behind the door's checks",
		from:   []string{""},
		except: []string{"enroll/acme/challenge", "bench"},
		not:    []string{"github.com/smallstep/certificates"},
		why:    "it takes statements without bounds and panics on some; enroll/acme/challenge bounds them first, and is the only place that asks it (bench measures it)",
		tests:  true,
	},
	{
		name:   "JOSE stays in the ACME door and with ID tokens",
		from:   []string{""},
		except: []string{"enroll/acme", "internal/idtoken", "server", "cmd/touchmark", "bench", "e2e"},
		not:    []string{"github.com/go-jose/go-jose"},
		why:    "what algorithms count, and whose key signs what, is decided in one place for each kind of message: ACME's requests, and ID tokens of builds in internal/idtoken; tests of the server and its program play clients and issuers",
	},
	{
		name: "EST parses no CMS",
		from: []string{"enroll/est"},
		not:  []string{"github.com/smallstep/pkcs7"},
		why:  "it only writes certs-only answers; whatever reads CMS from outside goes through internal/cms",
	},
	{
		name:   "HTML and pages stay in the portal",
		from:   []string{""},
		except: []string{"server/portal"},
		not:    []string{"html/template"},
		why:    "the pages for people are one room, the API another",
	},
	{
		name: "the log knows nothing of what it records",
		from: []string{"internal/audit"},
		only: []string{"internal/audit", "internal/durable"},
		why:  "an auditor must be able to read and trust this package alone, with the few lines of durable that write a file",
	},
	{
		name: "approvals need nothing",
		from: []string{"internal/approval"},
		only: []string{},
		not:  []string{"github.com", "golang.org", "google.golang.org", "go.step.sm", "gopkg.in", "net", "os"},
		why:  "whoever verifies a bundle of approvals must be able to read and trust this package alone",
	},
	{
		name: "events are read, not made",
		from: []string{"enroll", "vetting", "internal/audit", "internal/ca"},
		not:  []string{"internal/events"},
		why:  "an event is a leaf of the log read again; what changes devices writes leaves and must neither know nor wait for who listens",
	},
	{
		name: "events know no database",
		from: []string{"internal/events"},
		only: []string{"internal/events", "internal/audit", "internal/egress", "vetting"},
		why:  "the store reads events and keeps webhooks; delivery sees the narrow interfaces in package events",
	},
	{
		name: "what decides on addresses knows nobody",
		from: []string{"internal/egress"},
		only: []string{},
		not:  []string{"=net", "net/http"},
		why:  "webhooks and ACME ask it for each connection; it makes none, and no subject has it bend the rule",
	},
	{
		name: "the vocabulary of events speaks no protocol",
		from: []string{"=internal/events"},
		not:  []string{"net", "net/http"},
		why:  "the store implements what it declares; deliveries are the business of internal/events/webhook, streams that of server/api",
	},
	{
		name: "internal packages do not import the server",
		from: []string{"internal", "enroll", "vetting"},
		not:  []string{"server", "cmd"},
		why:  "the server puts the parts together; a part that knows the whole cannot be used or tested without it",
	},
	{
		name:   "nothing imports a program",
		from:   []string{""},
		not:    []string{"cmd"},
		except: []string{"cmd"},
		why:    "what two programs need belongs in a library",
		tests:  true,
	},
}

// rule forbids imports. It looks at packages under from, unless they are
// under except, and refuses an import that is under not, or, where only is
// set, an import from this module that is not under only.
type rule struct {
	name   string
	from   []string
	except []string
	not    []string
	only   []string // nil: no such limit; empty: nothing of this module
	why    string
	tests  bool // the rule binds _test.go files too
}

// link is one import: a package of this module, by its directory, uses
// another package.
type link struct {
	from, to string
	test     bool // in a _test.go file
	file     string
}

// breaks reports whether the link breaks the rule.
func (r rule) breaks(l link) bool {
	if l.test && !r.tests || !under(l.from, r.from) || under(l.from, r.except) {
		return false
	}
	to, ours := strings.CutPrefix(l.to, module+"/")
	if under(to, r.not) {
		return true
	}
	return r.only != nil && ours && to != l.from && !under(to, r.only)
}

// under reports whether a package is one of the names or lies below one.
func under(pkg string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if exact, ok := strings.CutPrefix(name, "="); ok {
			return pkg == exact
		}
		return name == "" || pkg == name || strings.HasPrefix(pkg, name+"/")
	})
}
