package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) productCommand() *cobra.Command {
	return group("product", "Device types: certificate profile and accepted proofs",
		"A product is a device type: what its certificates look like, and on which proof a device may first enrol.",
		a.productCreate(), a.productUpdate(), a.productList(), a.productShow())
}

// productFlags are what can be said about a product.
type productFlags struct {
	description, template, validity string
	await, serverKeys               string
	keys, proofs                    []string
	pcrs                            []int
	siteCodes, noStatusURLs         bool
	attested, attestationCA         bool
	domains                         vetting.Domains
	life                            vetting.Life
	onClone                         string
	licences                        string
	licenceEpoch                    uint16
	approvals                       vetting.ProductApprovals
}

func (p *productFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.description, "description", "", "a few words for people")
	f.StringSliceVar(&p.proofs, "proof", []string{string(vetting.ProofBootstrapKey)}, "accepted `proof`: bootstrap-key, identifiers, code, rig, vendor-certificate, tpm, attestation, domain-control; may be repeated")
	f.StringVar(&p.validity, "validity", "3650d", "lifetime of certificates, such as 825d or 12h, or forever")
	f.StringVar(&p.await, "await-records", "", "how long a device that is in no record is held, as 72h, because its manifest may come late")
	f.StringVar(&p.template, "template", "", "certificate template, a JSON `file` (docs/guides/planner.md explains it)")
	f.StringSliceVar(&p.keys, "key-type", nil, "accepted kind of device key: P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096; may be repeated (default P-256, P-384, Ed25519)")
	f.StringVar(&p.serverKeys, "server-keys", string(vetting.ServerKeysOff), "may devices have their private key made by the server: off, encrypted (to a key of the device), plain (within TLS alone)")
	f.BoolVar(&p.noStatusURLs, "no-status-urls", false, "leave out of certificates where their status can be learnt, to keep them small")
	f.BoolVar(&p.siteCodes, "site-codes", false, "let the operators of a site make enrolment codes for its orders")
	f.StringVar(&p.licences, "licences", "", "the firmware runs only on licensed chips, whose UIDs are of this `type`: opaque, stm32, nrf, esp32, eui64, uid64, uid128")
	f.Uint16Var(&p.licenceEpoch, "licence-epoch", 0, "what firmware may ask for at least in licences; it only grows")
	f.BoolVar(&p.attested, "attested", false, "certify only keys that a TPM attested, and renew on the same key or one that it attests anew")
	f.IntSliceVar(&p.pcrs, "pcr", nil, "`register` of the TPM that devices should quote, for rules to judge; may be repeated (default 0 to 7)")
	f.BoolVar(&p.attestationCA, "attestation-ca", false, "trust keys of TPMs that this server's attestation CA certified, with the proof attestation")
	f.StringSliceVar(&p.domains.Names, "domain", nil, "DNS `name` that servers may prove (--proof domain-control), or with a leading dot all names below one, as .lab.example.com; may be repeated")
	f.BoolVar(&p.domains.Wildcards, "wildcards", false, "let servers have certificates for all names directly below one (*.lab.example.com)")
	f.IntVar(&p.approvals.Orders, "order-approvals", 0, "how many others must approve that an order opens; the number only grows")
	f.Int64Var(&p.approvals.OrdersAbove, "order-approvals-above", 0, "orders of at most so many units open without approval; the number only falls")
	f.IntVar(&p.approvals.Manifests, "manifest-approvals", 0, "how many others must approve each manifest; the number only grows")
	f.StringVar(&p.life.RenewWindow, "renew-window", "", "the part of a certificate's life, at its end, in which it renews, such as 33% or 60d (default all of it)")
	f.StringVar(&p.life.Grace, "grace", "", "how long after its end a certificate still renews, such as 90d")
	f.StringVar(&p.life.Rescue, "rescue", "", "how long after its end, beyond the grace, a device that asks is held for a person, such as 3650d")
	f.StringVar(&p.onClone, "on-clone", string(vetting.CloneQuarantine), "what becomes of a device whose key is seen to have two holders: quarantine, note")
	f.BoolVar(&p.life.HoldUntilActive, "hold-until-active", false, "status responders say certificateHold of a certificate until it was first used")
	oneOf(c, "on-clone", vetting.CloneQuarantine, vetting.CloneNote)
	oneOf(c, "server-keys", vetting.ServerKeysOff, vetting.ServerKeysEncrypted, vetting.ServerKeysPlain)
	oneOf(c, "proof", vetting.FirstProofs...)
	oneOf(c, "licences", "opaque", "stm32", "nrf", "esp32", "eui64", "uid64", "uid128")
	oneOf(c, "key-type", "P-256", "P-384", "P-521", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096")
}

// apply changes what the command line names; all says to take the defaults
// of the other flags, too.
func (p *productFlags) apply(c *cobra.Command, in *api.ProductSettings, all bool) error {
	set := func(flag string) bool { return all || c.Flags().Changed(flag) }
	if set("description") {
		in.Description = p.description
	}
	if set("validity") {
		in.Profile.Validity = p.validity
	}
	if set("no-status-urls") {
		in.Profile.NoStatusURLs = p.noStatusURLs
	}
	if set("await-records") {
		in.AwaitRecords = p.await
	}
	if set("key-type") {
		in.Profile.Keys = p.keys
	}
	if set("server-keys") {
		in.ServerKeys = vetting.ServerKeys(p.serverKeys)
	}
	if set("site-codes") {
		in.SiteCodes = p.siteCodes
	}
	if set("attested") {
		in.TPM.Attested = p.attested
	}
	if set("pcr") {
		in.TPM.PCRs = p.pcrs
	}
	if set("attestation-ca") {
		in.TPM.AttestationCA = p.attestationCA
	}
	if set("domain") {
		in.Domains.Names = p.domains.Names
	}
	if set("wildcards") {
		in.Domains.Wildcards = p.domains.Wildcards
	}
	p.applyLicences(set, in)
	p.applyApprovals(set, &in.Approvals)
	p.applyLife(set, &in.Life)
	if set("proof") {
		in.Proofs = nil
		for _, proof := range p.proofs {
			in.Proofs = append(in.Proofs, vetting.Proof(proof))
		}
	}
	if set("template") {
		in.Profile.Template = ""
		if p.template != "" {
			text, err := os.ReadFile(p.template)
			if err != nil {
				return fmt.Errorf("the certificate template: %w", err)
			}
			in.Profile.Template = string(text)
		}
	}
	return nil
}

func (p *productFlags) applyLicences(set func(flag string) bool, in *api.ProductSettings) {
	if set("licences") {
		switch {
		case p.licences == "":
			in.Licences = nil
		case in.Licences == nil:
			in.Licences = &vetting.LicencePolicy{UID: p.licences}
		default:
			in.Licences.UID = p.licences
		}
	}
	if set("licence-epoch") && in.Licences != nil {
		in.Licences.Epoch = p.licenceEpoch
	}
}

func (p *productFlags) applyApprovals(set func(flag string) bool, in *vetting.ProductApprovals) {
	if set("order-approvals") {
		in.Orders = p.approvals.Orders
	}
	if set("order-approvals-above") {
		in.OrdersAbove = p.approvals.OrdersAbove
	}
	if set("manifest-approvals") {
		in.Manifests = p.approvals.Manifests
	}
}

func (p *productFlags) applyLife(set func(flag string) bool, in *vetting.Life) {
	if set("renew-window") {
		in.RenewWindow = p.life.RenewWindow
	}
	if set("grace") {
		in.Grace = p.life.Grace
	}
	if set("rescue") {
		in.Rescue = p.life.Rescue
	}
	if set("on-clone") {
		in.OnClone = vetting.CloneAction(p.onClone)
	}
	if set("hold-until-active") {
		in.HoldUntilActive = p.life.HoldUntilActive
	}
}

func (a *app) productCreate() *cobra.Command {
	var p productFlags
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a product", Args: cobra.ExactArgs(1),
		Example: "  touchmark product create thermostat --proof bootstrap-key --proof rig --validity forever\n  touchmark product create gateway --template gateway.json --key-type P-256",
	}
	p.add(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		var in api.ProductSettings
		if err := p.apply(c, &in, true); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/products", api.ProductInput{Name: args[0], ProductSettings: in}, &raw)
		return raw, err
	}, showProduct)
}

func (a *app) productUpdate() *cobra.Command {
	var p productFlags
	c := &cobra.Command{
		Use: "update NAME", Short: "Change a product; what no flag names stays", Args: cobra.ExactArgs(1),
		Long:              "update reads the product, changes what the flags name, and writes it back unless somebody else changed it meanwhile. Certificates that were issued stay as they are.",
		Example:           "  touchmark product update thermostat --validity 825d",
		ValidArgsFunction: a.completeFirst("/products"),
	}
	p.add(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) error { return p.apply(c, &in.ProductSettings, false) })
	}, showProduct)
}

// put adds a named part of a product, or replaces the one of its name.
func put[T any](list []T, made T, name func(T) string) []T {
	i := slices.IndexFunc(list, func(have T) bool { return name(have) == name(made) })
	if i < 0 {
		return append(list, made)
	}
	list[i] = made
	return list
}

// remove takes a named part of a product away.
func remove[T any](list []T, kind, named string, name func(T) string) ([]T, error) {
	i := slices.IndexFunc(list, func(have T) bool { return name(have) == named })
	if i < 0 {
		return nil, fmt.Errorf("the product has no %s %q", kind, named)
	}
	return slices.Delete(list, i, i+1), nil
}

// changeProduct writes a product back unless somebody else changed it
// meanwhile. It is read as what is written, so nothing of it gets lost.
func changeProduct(ctx context.Context, cl *client, name string, change func(*api.ProductUpdate) error) (raw []byte, err error) {
	var in api.ProductUpdate
	if err := cl.api(ctx, http.MethodGet, "/products/"+segment(name), nil, &in); err != nil {
		return nil, err
	}
	if err := change(&in); err != nil {
		return nil, err
	}
	err = cl.api(ctx, http.MethodPut, "/products/"+segment(name), in, &raw)
	return raw, err
}

func (a *app) productList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List products"}, "/products", noQuery, table[vetting.Product]{
		columns: "NAME\tPROOFS\tVALIDITY\tREVISION\tDESCRIPTION", none: "There are no products yet; create one with `touchmark product create`.",
		row: func(p *vetting.Product) []any {
			return []any{p.Name, join(p.Proofs), p.Profile.Validity, p.Revision, p.Description}
		},
	})
}

func (a *app) productShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a product", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, getter("/products/"), showProduct)
}

func showProduct(w io.Writer, p *vetting.Product) {
	field(w, "product", p.Name)
	field(w, "description", p.Description)
	field(w, "proofs", join(p.Proofs))
	field(w, "validity", p.Profile.Validity)
	field(w, "keys", join(p.Profile.Keys))
	if p.Profile.NoStatusURLs {
		field(w, "status", "certificates do not say where to ask")
	}
	field(w, "server keys", cmp.Or(p.ServerKeys, vetting.ServerKeysOff))
	if p.SiteCodes {
		field(w, "codes", "sites may make their own")
	}
	field(w, "await records", p.AwaitRecords)
	field(w, "renew window", p.Life.RenewWindow)
	field(w, "grace", p.Life.Grace)
	field(w, "rescue", p.Life.Rescue)
	field(w, "on clone", cmp.Or(p.Life.OnClone, vetting.CloneQuarantine))
	if p.Life.HoldUntilActive {
		field(w, "certificates", "on hold until they were first used")
	}
	if n := p.Approvals.Orders; n > 0 {
		above := ""
		if p.Approvals.OrdersAbove > 0 {
			above = "above " + counted(p.Approvals.OrdersAbove, "unit", "units") + " "
		}
		field(w, "orders", above+"open with "+counted(int64(n), "approval", "approvals"))
	}
	if n := p.Approvals.Manifests; n > 0 {
		field(w, "manifests", "need "+counted(int64(n), "approval", "approvals"))
	}
	if l := p.Licences; l != nil {
		field(w, "licences", fmt.Sprintf("product %d, UIDs of type %s, epoch %d", l.Number, l.UID, l.Epoch))
	}
	for _, v := range p.Vendors {
		field(w, "vendor", v.Name)
	}
	for _, m := range p.TPM.Makers {
		field(w, "TPM maker", m.Name)
	}
	if p.TPM.Attested {
		field(w, "attested", "only keys that a TPM attested are certified")
	}
	if len(p.TPM.PCRs) > 0 {
		field(w, "quoted", fmt.Sprintf("registers %v", p.TPM.PCRs))
	}
	if p.TPM.AttestationCA {
		field(w, "attestation CA", "this server's counts")
	}
	field(w, "domains", join(p.Domains.Names))
	if p.Domains.Wildcards {
		field(w, "wildcards", "allowed")
	}
	for _, r := range p.Rules {
		fmt.Fprintf(w, "rule\t%s, otherwise %s: %s\n", r.Name, r.Otherwise, r.Expression)
	}
	field(w, "created", p.Created)
	field(w, "updated", p.Updated)
	field(w, "revision", p.Revision)
	if p.Profile.Template != "" {
		fmt.Fprintf(w, "template:\n%s\n", p.Profile.Template)
	}
}

func noQuery() url.Values { return nil }

// getter reads one object by its name or number.
func getter(path string) func(context.Context, *client, []string) ([]byte, error) {
	return func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodGet, path+segment(args[0]), nil, &raw)
		return raw, err
	}
}

// decode reads an answer that was got as bytes.
func decode(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the server's answer is not what this program knows: %w", err)
	}
	return nil
}
