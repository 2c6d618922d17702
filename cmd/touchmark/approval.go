package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/durable"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) approvalCommand() *cobra.Command {
	return group("approval", "Agree to what others ask for, by your signature",
		`Some acts want the approval of others: whoever asks makes a proposal, and so many others must sign it, each with their own key. What is
signed is the proposal itself: the exact act, who asks and why, how many approvals it wants and until when. The last approval carries it out.`,
		a.approvalList(), a.approvalShow(), a.approvalApprove(), a.approvalRetract(), a.approvalWithdraw(), a.approvalExport(), a.approvalVerify(), a.approvalPolicy())
}

func (a *app) approvalList() *cobra.Command {
	var kind, subject, state string
	c := &cobra.Command{Use: "list", Short: "List proposals, newest first; those that wait unless you say otherwise",
		Example: "  touchmark approval list\n  touchmark approval list --state carried-out --kind order.raise"}
	f := c.Flags()
	f.StringVar(&kind, "kind", "", "only proposals of this kind")
	f.StringVar(&subject, "subject", "", "only proposals about this")
	f.StringVar(&state, "state", string(approval.Pending), "only proposals in this state; all for every state")
	oneOf(c, "kind", approval.Kinds...)
	oneOf(c, "state", append([]approval.State{"all"}, approval.States...)...)
	return listCommand(a, c, "/proposals", func() url.Values {
		return url.Values{"kind": {kind}, "subject": {subject}, "state": {strings.TrimSuffix(state, "all")}}
	}, table[api.Proposal]{
		columns: "NUMBER\tKIND\tSUBJECT\tSTATE\tASKED BY\tAPPROVED BY\tOF\tEXPIRES\tWHY", none: "No proposal is in this state.",
		row: func(p *api.Proposal) []any {
			return []any{p.ID, p.Kind, p.Subject, p.State, p.By, givers(p.Approvals), p.Wanted, p.Expires, p.Note}
		},
	})
}

func (a *app) approvalShow() *cobra.Command {
	c := &cobra.Command{Use: "show NUMBER", Short: "Show a proposal: all that an approval agrees to, and who approved it", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		path, err := proposalPath(args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodGet, path, nil, &raw)
		return raw, err
	}, showProposal)
}

func (a *app) approvalApprove() *cobra.Command {
	digest := ""
	c := &cobra.Command{Use: "approve NUMBER", Short: "Sign a proposal with your key",
		Long: `approve shows the very bytes that you are about to sign, asks, and signs them with the key of your certificate, be that in a file or a token. Whoever
asked for it cannot approve it, and nobody counts twice. The last approval carries the act out.

A script names with --digest the statement that somebody looked at, as show prints it: another one is not signed.`,
		Example: "  touchmark --dir berta approval approve 4711\n  touchmark approval approve 4711 --cert anna.crt --key 'pkcs11:token=anna;object=anna?pin-value=1234'", Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&digest, "digest", "", "sign only if this is the statement's SHA-256, in hexadecimal")
	return a.yesFlag(objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		path, err := proposalPath(args[0])
		if err != nil {
			return nil, err
		}
		signature, err := a.signProposal(ctx, cl, path, func(t *approval.Terms) error {
			if digest != "" && !strings.EqualFold(digest, t.Digest) {
				return fmt.Errorf("the statement of proposal %d has the digest %s, not %s: nothing was signed; look at it again", t.ID, t.Digest, digest)
			}
			var text strings.Builder
			if err := tabbed(&text, func(w io.Writer) { showTerms(w, t) }); err != nil {
				return err
			}
			return a.confirm(text.String() + "Your signature says that you agree to exactly this.")
		})
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, path+"/approvals", api.ApprovalInput{Signature: signature}, &raw)
		return raw, err
	}, showProposal))
}

// signProposal signs a proposal's payload after agreed has looked at what it
// says. Nothing else that the server says of the proposal counts.
func (a *app) signProposal(ctx context.Context, cl *client, path string, agreed func(*approval.Terms) error) ([]byte, error) {
	var p api.Proposal
	if err := cl.api(ctx, http.MethodGet, path, nil, &p); err != nil {
		return nil, err
	}
	t, err := approval.ReadTerms(p.Payload)
	if err != nil {
		return nil, fmt.Errorf("what the server asks you to sign: %w", err)
	}
	if want := fmt.Sprintf("/proposals/%d", t.ID); want != path {
		return nil, fmt.Errorf("the server asks you to sign proposal %d: nothing was signed", t.ID)
	}
	if err := agreed(t); err != nil {
		return nil, err
	}
	if cl.key == nil {
		return nil, usagef("whose approval? Give --cert and --key, or --dir DIR")
	}
	return approval.Sign(p.Payload, cl.key)
}

// endProposal makes a command that takes something back, with a reason.
func (a *app) endProposal(c *cobra.Command, step string) *cobra.Command {
	note := ""
	c.Args = cobra.ExactArgs(1)
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		path, err := proposalPath(args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, path+step, api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showProposal)
}

func (a *app) approvalRetract() *cobra.Command {
	return a.endProposal(&cobra.Command{Use: "retract NUMBER", Short: "Take your own approval back while the proposal waits",
		Example: "  touchmark approval retract 4711 --note 'the digest is of another build'"}, "/approvals/retract")
}

func (a *app) approvalWithdraw() *cobra.Command {
	return a.endProposal(&cobra.Command{Use: "withdraw NUMBER", Short: "Withdraw a proposal that waits: yours, or one that you could approve",
		Example: "  touchmark approval withdraw 4711 --note 'superseded'"}, "/withdraw")
}

func (a *app) approvalExport() *cobra.Command {
	out := ""
	c := &cobra.Command{Use: "export NUMBER", Short: "Write a proposal with its approvals to a file that verifies offline", Args: cobra.ExactArgs(1),
		Long: `export writes a bundle: the proposal and the signatures as a DSSE envelope, the certificates of those who signed, and, once a checkpoint covers
it, the proof that the log shows the last approval.`,
		Example: "  touchmark approval export 4711 -o 4711.approval"}
	c.Flags().StringVarP(&out, "output", "o", "", "write the bundle to this `file`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := proposalPath(args[0])
		if err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		var raw []byte
		if err := cl.api(cmd.Context(), http.MethodGet, path+"/bundle", nil, &raw); err != nil {
			return err
		}
		if out == "" {
			_, err := a.out.Write(raw)
			return err
		}
		return durable.Replace(out, raw, 0o644)
	}
	return c
}

func proposalPath(number string) (string, error) {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return "", usagef("the proposal's number %q is no number", number)
	}
	return fmt.Sprintf("/proposals/%d", n), nil
}

func showProposal(w io.Writer, p *api.Proposal) {
	t, err := approval.ReadTerms(p.Payload)
	if err != nil {
		field(w, "damaged", err)
		return
	}
	showTerms(w, t)
	field(w, "state", p.State)
	field(w, "because", p.Why)
	field(w, "approved by", givers(p.Approvals))
	if missing := p.Wanted - len(p.Approvals); missing > 0 && p.State == approval.Pending {
		field(w, "still wanted", counted(int64(missing), "approval", "approvals")+" by others")
	}
}

// showTerms shows all that an approval agrees to, from what is signed.
func showTerms(w io.Writer, t *approval.Terms) {
	field(w, "proposal", fmt.Sprintf("%d: %s %s", t.ID, t.Kind, t.Subject))
	var statement map[string]json.RawMessage
	if json.Unmarshal(t.Statement, &statement) != nil {
		statement = map[string]json.RawMessage{"statement": t.Statement}
	}
	for _, name := range slices.Sorted(maps.Keys(statement)) {
		value := string(statement[name])
		var s string
		var list []string
		if json.Unmarshal(statement[name], &s) == nil {
			value = s
		} else if json.Unmarshal(statement[name], &list) == nil {
			value = strings.Join(list, ", ")
		}
		if name == "certificate" {
			value = certificateLine(value)
		}
		field(w, "  "+name, value)
	}
	field(w, "digest", t.Digest)
	field(w, "asked by", t.By)
	field(w, "why", t.Note)
	field(w, "asked", t.At)
	field(w, "expires", t.Expires)
	field(w, "wanted", counted(int64(t.Wanted), "approval", "approvals")+" by others")
}

// certificateLine says of a certificate in base64 what people look at. All of it
// is in the statement's digest.
func certificateLine(text string) string {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return text
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return text
	}
	return fmt.Sprintf("of %s, by %s, from %s to %s, SHA-256 %x", cert.Subject, cert.Issuer, cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly), sha256.Sum256(der))
}

func givers(list []vetting.Approval) string {
	var names []string
	for _, a := range list {
		names = append(names, a.By)
	}
	return strings.Join(names, ", ")
}

func (a *app) approvalVerify() *cobra.Command {
	var root, verifier string
	c := &cobra.Command{Use: "verify BUNDLE", Short: "Verify a bundle offline, by the root certificate alone", Args: cobra.ExactArgs(1),
		Long: `verify checks that as many operators as were wanted signed the proposal, none of them who asked or twice, each with a certificate of an operator
CA below the root that was valid then, in a role that approves such acts, and within the proposal's time. With --verifier it also checks
the proof that the log shows the last approval, and when; without, the times are those that the server noted.`,
		Example: "  touchmark approval verify 4711.approval --root root.crt --verifier log.verifier"}
	f := c.Flags()
	f.StringVar(&root, "root", "", "the root certificate, a PEM `file` (required)")
	f.StringVar(&verifier, "verifier", "", "the log's public key, a `file`")
	_ = c.MarkFlagRequired("root")
	c.RunE = func(_ *cobra.Command, args []string) error {
		b, err := readBundle(args[0])
		if err != nil {
			return err
		}
		text, err := os.ReadFile(root)
		if err != nil {
			return err
		}
		cert, err := parsePEM(text)
		if err != nil {
			return fmt.Errorf("%s: %w", root, err)
		}
		v, err := verifyBundle(b, cert)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		out := &verifiedBundle{Terms: v.Terms, Approvers: v.Approvers}
		if verifier != "" {
			if out.Logged, err = proveBundle(b, v, verifier); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return a.print(raw, out.show)
	}
	return a.jsonFlag(c)
}
