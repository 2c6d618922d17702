package main

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) evidenceCommand() *cobra.Command {
	return group("evidence", "Signs of counterfeit or misuse", "Evidence is one observed sign of counterfeit or misuse, kept with the device that it speaks against.", a.evidenceList(), a.evidenceClear(), a.evidenceReopen())
}

func (a *app) evidenceList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List evidence, newest first", Example: "  touchmark evidence list --kind over-quota --site penang"}
	filter(c, q, "site", "only evidence about devices of this site")
	filter(c, q, "kind", "only evidence of this kind")
	a.deviceFilter(c, q, "only evidence against this device")
	oneOf(c, "kind", vetting.EvidenceKinds...)
	c.Flags().BoolFunc("open", "only evidence that nobody has cleared", func(v string) error { q.Set("open", v); return nil })
	a.completeFlags(c)
	return listCommand(a, c, "/evidence", func() url.Values { return q }, table[vetting.Evidence]{
		columns: "ID\tWHEN\tKIND\tDEVICE\tREGISTRATION\tMANIFEST\tCLEARED\tWHAT", none: "There is no such evidence.",
		row: func(e *vetting.Evidence) []any {
			return []any{e.ID, e.At, e.Kind, number(e.DeviceID), number(e.RegistrationID), number(e.ManifestID), clearedBy(e), e.Text}
		},
	})
}

func clearedBy(e *vetting.Evidence) string {
	if e.Cleared == nil {
		return ""
	}
	return "by " + e.Cleared.By
}

func (a *app) evidenceClear() *cobra.Command {
	note, device := "", ""
	c := &cobra.Command{Use: "clear [ID]", Short: "Clear a false alarm", Args: cobra.MaximumNArgs(1),
		Long:    "clear keeps your word that evidence was a false alarm: it stays with the device, but no longer makes it suspect. With --device everything that is open against a device is cleared in one act.",
		Example: "  touchmark evidence clear 4711 --note 'the line was re-flashed, seen by QA'\n  touchmark evidence clear --device A-0001 --note 'test bench'"}
	c.Flags().StringVar(&device, "device", "", "clear everything that is open against this device")
	noteFlag(c, &note)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (device != "") {
			return usagef("name one evidence by its number, or all of a device's with --device")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		if device == "" {
			return a.judgeEvidence(cmd.Context(), cl, args[0], "clear", note)
		}
		id, err := deviceID(cmd.Context(), cl, device)
		if err != nil {
			return err
		}
		var raw []byte
		if err := cl.api(cmd.Context(), http.MethodPost, "/devices/"+id+"/evidence/clear", api.EvidenceNote{Note: note}, &raw); err != nil {
			return err
		}
		return show(a, raw, func(w io.Writer, l *api.List[vetting.Evidence]) {
			for _, e := range l.Items {
				showEvidence(w, e)
			}
		})
	}
	return a.jsonFlag(c)
}

func (a *app) evidenceReopen() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "reopen ID", Short: "Take back that evidence was cleared", Args: cobra.ExactArgs(1)}
	noteFlag(c, &note)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.judgeEvidence(cmd.Context(), cl, args[0], "reopen", note)
	}
	return a.jsonFlag(c)
}

func (a *app) judgeEvidence(ctx context.Context, cl *client, id, act, note string) error {
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/evidence/"+segment(id)+"/"+act, api.EvidenceNote{Note: note}, &raw); err != nil {
		return err
	}
	return show(a, raw, showEvidence)
}

func noteFlag(c *cobra.Command, note *string) {
	c.Flags().StringVar(note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
}
