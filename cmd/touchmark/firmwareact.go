package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) releaseAttach() *cobra.Command {
	c := &cobra.Command{Use: "attach PRODUCT@VERSION FILE", Short: "Add an SBOM or provenance to a draft", Args: cobra.ExactArgs(2),
		Long: `attach adds an SBOM (CycloneDX or SPDX in JSON) or SLSA provenance (an in-toto statement, alone or in DSSE), at most 4 MiB. Both are wanted
before a release is approved, and the provenance must have the SHA-256 of every artefact among its subjects: that of the file before it is signed.`,
		Example: "  touchmark firmware release attach thermostat@1.4.0 sbom.cdx.json\n  touchmark firmware release attach thermostat@1.4.0 provenance.intoto.json"}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		content, err := os.ReadFile(args[1])
		if err != nil {
			return nil, err
		}
		r, _, err := releaseNamed(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/documents", api.DocumentInput{Content: content}, &raw)
		return raw, err
	}, showRelease)
}

func (a *app) releaseSubmit() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "submit PRODUCT@VERSION", Short: "Ask others to approve a draft", Args: cobra.ExactArgs(1),
		Long: `submit makes a proposal of the draft as it is: its artefacts with their digests, parameters and keys, the security counter, the documents.
Others approve it with touchmark approval approve. Whoever changes the draft meanwhile ends the proposal.`,
		Example: "  touchmark firmware release submit thermostat@1.4.0 --note 'fixes the boiler'"}
	noteFlag(c, &note)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		r, _, err := releaseNamed(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/submit", api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showRelease)
}

func (a *app) firmwareYank() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "yank PRODUCT@VERSION", Short: "Ask others to agree that a release is taken back", Args: cobra.ExactArgs(1),
		Long:    "yank shows how many devices were last seen to run the release, asks, and makes a proposal that others approve.",
		Example: "  touchmark firmware yank thermostat@1.4.0 --note 'it burns' --yes"}
	noteFlag(c, &note)
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		r, _, err := releaseNamed(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		if err := a.confirmImpact(ctx, cl, releasePath(r.ID)+"/yank-impact", nil, "Release "+r.Name()+" is to be taken back; its signatures stay valid."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/yank", api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showProposal)
}

func (a *app) firmwareFloor() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "floor PRODUCT COUNTER", Short: "Ask others to agree that a product's counter floor is raised", Args: cobra.ExactArgs(2),
		Long:    "floor shows how many devices were last seen to run something below it, asks, and makes a proposal that others approve. Where no published release has such a counter, it is refused: it would strand them.",
		Example: "  touchmark firmware floor thermostat 4 --note 'CVE-2026-1234' --yes"}
	noteFlag(c, &note)
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		floor, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return nil, usagef("%q is no security counter: it is a number below 2^32", args[1])
		}
		path := "/products/" + segment(args[0]) + "/firmware/floor"
		if err := a.confirmImpact(ctx, cl, path+"-impact", url.Values{"floor": {args[1]}}, fmt.Sprintf("The counter floor of %s is to be %d.", args[0], floor)); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, path, api.FloorInput{Floor: uint32(floor), Note: note}, &raw)
		return raw, err
	}, showProposal)
}

func (a *app) firmwareKeyRevoke() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "revoke NAME", Short: "Revoke a key: a test key at once, a production key when others agree", Args: cobra.ExactArgs(1),
		Long:    "revoke shows which releases the key signed and how many devices were last seen to run them, and asks. A revoked key signs nothing any more; what it signed stays as it is.",
		Example: "  touchmark firmware key revoke thermostat-2027 --note 'the HSM was stolen' --yes"}
	noteFlag(c, &note)
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		path := "/firmware-keys/" + segment(args[0])
		if err := a.confirmImpact(ctx, cl, path+"/impact", nil, "The key "+args[0]+" is to sign nothing any more."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, path+"/revoke", api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, func(w io.Writer, r *api.Revoking) {
		showFirmwareKey(w, &r.Key)
		if r.Proposal != nil {
			showProposal(w, r.Proposal)
		}
	})
}

// confirmImpact shows whom an act would touch, and asks.
func (a *app) confirmImpact(ctx context.Context, cl *client, path string, query url.Values, what string) error {
	var i release.Impact
	if err := cl.call(ctx, http.MethodGet, api.Base+path, query, nil, &i); err != nil {
		return err
	}
	about := "no release"
	if len(i.Releases) > 0 {
		about = strings.Join(i.Releases, ", ")
	}
	return a.confirm(fmt.Sprintf("%s It is about %s. Of %s seen, %s what it is about.", what, about, counted(i.Seen, "device", "devices"), counted(i.Devices, "runs", "run")))
}

func (a *app) firmwarePolicy() *cobra.Command {
	approvals := 0
	c := &cobra.Command{Use: "policy PRODUCT", Short: "Show a product's counter floor, and how many approvals its firmware wants", Args: cobra.ExactArgs(1),
		Long:    "Two approvals are wanted where nothing was said. Once the number was said, it only grows.",
		Example: "  touchmark firmware policy thermostat\n  touchmark firmware policy thermostat --approvals 3"}
	c.Flags().IntVar(&approvals, "approvals", 0, "change how many others must approve")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		path := "/products/" + segment(args[0]) + "/firmware"
		if approvals != 0 {
			err = cl.api(ctx, http.MethodPut, path+"/approvals", api.FirmwareApprovalsInput{Approvals: approvals}, &raw)
		} else {
			err = cl.api(ctx, http.MethodGet, path, nil, &raw)
		}
		return raw, err
	}, func(w io.Writer, p *release.Policy) {
		field(w, "counter floor", p.Floor)
		field(w, "approvals wanted", p.Approvals)
	})
}
