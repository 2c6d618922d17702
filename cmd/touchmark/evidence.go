package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/vetting"
)

func (a *app) evidenceCommand() *cobra.Command {
	return group("evidence", "Signs of counterfeit or misuse", "Evidence is one observed sign of counterfeit or misuse, kept with the device that it speaks against.", a.evidenceList())
}

func (a *app) evidenceList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List evidence, newest first", Example: "  touchmark evidence list --kind over-quota --site penang"}
	filter(c, q, "site", "only evidence about devices of this site")
	filter(c, q, "kind", "only evidence of this kind")
	filter(c, q, "device", "only evidence against the device with this number")
	oneOf(c, "kind", vetting.EvidenceUnknownDevice, vetting.EvidenceWrongKey, vetting.EvidenceMismatch, vetting.EvidenceDuplicateSerial,
		vetting.EvidenceDuplicateUID, vetting.EvidenceDuplicateMAC, vetting.EvidenceDuplicateKey, vetting.EvidenceOverQuota,
		vetting.EvidenceOutOfWindow, vetting.EvidenceWrongSite, vetting.EvidenceSpentKey, vetting.EvidenceSuperseded)
	a.completeFlags(c)
	return listCommand(a, c, "/evidence", func() url.Values { return q }, table[vetting.Evidence]{
		columns: "ID\tWHEN\tKIND\tDEVICE\tREGISTRATION\tMANIFEST\tWHAT", none: "There is no such evidence.",
		row: func(e *vetting.Evidence) []any {
			return []any{e.ID, e.At, e.Kind, number(e.DeviceID), number(e.RegistrationID), number(e.ManifestID), e.Text}
		},
	})
}
