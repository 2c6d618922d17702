package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) firmwareCommand() *cobra.Command {
	return group("firmware", "Firmware: releases, and what signs them",
		`A release is one firmware version of a product: draft → approved → signed → published → yanked. Files are signed where the build runs: this
program prepares them, sends no more than digests and parameters to the server, whose keys never leave their store, finishes them, and
verifies what it made. Test keys sign drafts at once; production keys sign approved releases alone, and exactly what was approved.`,
		a.firmwareKey(), a.firmwareRelease(), a.firmwareSign(), a.firmwareCollect(), a.firmwareVerify(), a.firmwareRequest(), a.firmwareWrap(), a.firmwareWraps(), a.firmwareRecipient(),
		a.firmwareYank(), a.firmwareFloor(), a.firmwarePolicy())
}

func (a *app) firmwareKey() *cobra.Command {
	return group("key", "Keys that sign firmware", "A key is of one product and one stage: test or production. It is made in the server's key store, and never leaves it, or it is kept offline.",
		a.firmwareKeyCreate(), a.firmwareKeyRequest(), a.firmwareKeyImport(), a.firmwareKeyList(), a.firmwareKeyShow(), a.firmwareKeyExport(), a.firmwareKeyRevoke())
}

func (a *app) firmwareKeyCreate() *cobra.Command {
	var in api.FirmwareKeyInput
	var stage string
	c := &cobra.Command{Use: "create NAME", Short: "Make a key that signs firmware", Args: cobra.ExactArgs(1),
		Example: "  touchmark firmware key create thermostat-test --product thermostat --stage test\n  touchmark firmware key create thermostat-2027 --product thermostat --stage production --kind RSA-3072\n  touchmark firmware key create thermostat-pq --product thermostat --stage production --kind ML-DSA-65",
		Long:    "create makes a key. Keys of the kinds ML-DSA-65 and ML-DSA-87 sign no files, but the statement about each release when it is published; they are kept in files alone, and have no certificate."}
	f := c.Flags()
	f.StringVar(&in.Product, "product", "", "the product (required)")
	f.StringVar(&stage, "stage", "", "test or production (required)")
	f.StringVar(&in.Kind, "kind", "P-256", strings.Join(release.KeyKinds, ", "))
	_ = c.MarkFlagRequired("product")
	_ = c.MarkFlagRequired("stage")
	oneOf(c, "stage", release.Stages...)
	oneOf(c, "kind", release.KeyKinds...)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name, in.Stage = args[0], release.Stage(stage)
		err = cl.api(ctx, http.MethodPost, "/firmware-keys", in, &raw)
		return raw, err
	}, showFirmwareKey)
}

func (a *app) firmwareKeyList() *cobra.Command {
	product := ""
	c := &cobra.Command{Use: "list", Short: "List the keys that sign firmware"}
	c.Flags().StringVar(&product, "product", "", "only those of this product")
	return listCommand(a, c, "/firmware-keys", func() url.Values { return url.Values{"product": {product}} }, table[release.Key]{
		columns: "NAME\tPRODUCT\tSTAGE\tKIND\tWHERE\tCREATED\tREVOKED", none: "There are no keys yet; make one with `touchmark firmware key create`.",
		row: func(k *release.Key) []any {
			return []any{k.Name, k.Product, k.Stage, k.Kind, keyPlace(k), k.Created, k.Revoked}
		},
	})
}

func (a *app) firmwareKeyShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a key that signs firmware, with its public key and certificate", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/firmware-keys")}
	return objectCommand(a, c, getter("/firmware-keys/"), func(w io.Writer, k *release.Key) {
		showFirmwareKey(w, k)
		fmt.Fprintf(w, "%s", pemOf("PUBLIC KEY", k.PublicKey))
		if len(k.Certificate) > 0 {
			fmt.Fprintf(w, "%s", pemOf("CERTIFICATE", k.Certificate))
		}
	})
}

func keyPlace(k *release.Key) string {
	if k.Offline {
		return "offline"
	}
	return "key store"
}

func showFirmwareKey(w io.Writer, k *release.Key) {
	field(w, "key", k.Name)
	field(w, "product", k.Product)
	field(w, "stage", k.Stage)
	field(w, "kind", k.Kind)
	field(w, "where", keyPlace(k))
	field(w, "created", k.Created)
	field(w, "by", k.By)
	field(w, "revoked", k.Revoked)
	field(w, "why", k.Reason)
}

func (a *app) firmwareRelease() *cobra.Command {
	return group("release", "Releases of a product", "A release is named PRODUCT@VERSION.",
		a.releaseCreate(), a.releaseList(), a.releaseShow(), a.releaseAttach(), a.releaseSubmit(), a.releasePublish(), a.releaseStatement(), a.releaseVerifyStatement())
}

func (a *app) releaseCreate() *cobra.Command {
	var in api.ReleaseInput
	c := &cobra.Command{Use: "create PRODUCT@VERSION", Short: "Create a draft of a release", Args: cobra.ExactArgs(1),
		Long: `create makes a draft. The security counter is what bootloaders compare so that old images do not come back; it is chosen, never taken from the
version, and never goes back. Nor does the version, unless --maintenance says that the release is for an older line.`,
		Example: "  touchmark firmware release create thermostat@1.4.0 --counter 3 --support-end 2031-12-31"}
	f := c.Flags()
	f.Uint32Var(&in.Counter, "counter", 0, "the security counter (required)")
	f.StringVar(&in.SupportEnd, "support-end", "", "the last day of support, as 2031-12-31 (required)")
	f.BoolVar(&in.Maintenance, "maintenance", false, "it is for an older line")
	f.StringVar(&in.Note, "note", "", "a few words for people")
	_ = c.MarkFlagRequired("counter")
	_ = c.MarkFlagRequired("support-end")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if in.Product, in.Version, err = splitRelease(args[0]); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/releases", in, &raw)
		return raw, err
	}, showRelease)
}

func (a *app) releaseList() *cobra.Command {
	var product, state string
	c := &cobra.Command{Use: "list", Short: "List releases, newest first"}
	c.Flags().StringVar(&product, "product", "", "only those of this product")
	c.Flags().StringVar(&state, "state", "", "only those in this state: "+join(release.States))
	oneOf(c, "state", release.States...)
	return listCommand(a, c, "/releases", func() url.Values { return url.Values{"product": {product}, "state": {state}} }, table[release.Release]{
		columns: "RELEASE\tCOUNTER\tSTATE\tSUPPORT ENDS\tARTEFACTS\tCREATED\tBY", none: "There are no releases yet; create one with `touchmark firmware release create`.",
		row: func(r *release.Release) []any {
			return []any{r.Name(), r.Counter, r.State, r.SupportEnd, len(r.Artefacts), r.Created, r.By}
		},
	})
}

func (a *app) releaseShow() *cobra.Command {
	c := &cobra.Command{Use: "show PRODUCT@VERSION", Short: "Show a release", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		_, raw, err := releaseNamed(ctx, cl, args[0])
		return raw, err
	}, showRelease)
}

func (a *app) releasePublish() *cobra.Command {
	return a.releaseStep("publish", "Publish a release, all of whose signed files were verified", "  touchmark firmware release publish thermostat@1.4.0")
}

// releaseStep makes a command that takes a release a step on.
func (a *app) releaseStep(step, about, example string) *cobra.Command {
	c := &cobra.Command{Use: step + " PRODUCT@VERSION", Short: about, Args: cobra.ExactArgs(1), Example: example}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		r, _, err := releaseNamed(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/"+step, nil, &raw)
		return raw, err
	}, showRelease)
}

func releasePath(id int64) string { return "/releases/" + strconv.FormatInt(id, 10) }

func splitRelease(name string) (product, version string, err error) {
	product, version, ok := strings.Cut(name, "@")
	if !ok || product == "" || version == "" {
		return "", "", usagef("%q names no release: write it as PRODUCT@VERSION, such as thermostat@1.4.0", name)
	}
	return product, version, nil
}

// releaseNamed finds a release by PRODUCT@VERSION.
func releaseNamed(ctx context.Context, cl *client, name string) (*release.Release, []byte, error) {
	product, version, err := splitRelease(name)
	if err != nil {
		return nil, nil, err
	}
	p, err := cl.list(ctx, "/releases", url.Values{"product": {product}, "version": {version}}, 1)
	if err != nil {
		return nil, nil, err
	}
	if len(p.Items) == 0 {
		return nil, nil, fmt.Errorf("there is no release %s: create it with `touchmark firmware release create`", name)
	}
	r, err := answered[release.Release](p.Items[0])
	return r, p.Items[0], err
}

func showRelease(w io.Writer, r *release.Release) {
	field(w, "release", r.Name())
	field(w, "state", r.State)
	field(w, "security counter", r.Counter)
	field(w, "supported until", r.SupportEnd)
	if r.Maintenance {
		field(w, "line", "an older one")
	}
	field(w, "note", r.Note)
	field(w, "created", r.Created)
	field(w, "by", r.By)
	if r.State == release.Draft && r.Proposal != 0 {
		field(w, "submitted", fmt.Sprintf("proposal %d", r.Proposal))
	}
	field(w, "approved", r.Approved)
	field(w, "published", r.Published)
	field(w, "yanked", r.Yanked)
	field(w, "why", r.YankReason)
	digest := r.Statement().Digest()
	field(w, "statement", fmt.Sprintf("sha256 %x", digest))
	for _, d := range r.Documents {
		field(w, d.Kind, fmt.Sprintf("%s, sha256 %s", d.Format, d.SHA256))
	}
	for i := range r.Artefacts {
		showArtefact(w, &r.Artefacts[i])
	}
}

func showArtefact(w io.Writer, part *release.Artefact) {
	field(w, "artefact", fmt.Sprintf("%s (%s, %s, ticket %d)", part.Name, part.Format, part.Stage, part.ID))
	field(w, "  file", fmt.Sprintf("%s, sha256 %s", counted(part.Source.Size, "byte", "bytes"), part.Source.SHA256))
	field(w, "  keys", strings.Join(part.Keys, ", "))
	if len(part.Signatures) > 0 {
		field(w, "  signatures", len(part.Signatures))
	}
	if part.Signed != nil {
		field(w, "  signed file", fmt.Sprintf("%s, sha256 %s", counted(part.Signed.Size, "byte", "bytes"), part.Signed.SHA256))
	}
	for _, c := range part.Checks {
		field(w, "  verified by", strings.TrimSpace(c.Program+" "+c.Version))
	}
}

// artefactByTicket reads an artefact and its release.
func artefactByTicket(ctx context.Context, cl *client, ticket string) (*release.Release, *release.Artefact, error) {
	if _, err := strconv.ParseInt(ticket, 10, 64); err != nil {
		return nil, nil, usagef("%q is no ticket: give the number that firmware sign printed", ticket)
	}
	var raw json.RawMessage
	if err := cl.api(ctx, http.MethodGet, "/artefacts/"+ticket, nil, &raw); err != nil {
		return nil, nil, err
	}
	part, err := answered[release.Artefact](raw)
	if err != nil {
		return nil, nil, err
	}
	r := new(release.Release)
	return r, part, cl.api(ctx, http.MethodGet, releasePath(part.Release), nil, r)
}
