package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server"
)

func (a *app) auditAcceptLoss() *cobra.Command {
	var file, note string
	c := &cobra.Command{
		Use: "accept-loss", Short: "Go on with a database that is older than what was signed", Args: cobra.NoArgs,
		Long: `A server refuses to start on a database that was restored from an older backup: its log ends before the checkpoint that the
server signed. If what came after the backup is gone for good, accept-loss lets it go on. It writes a leaf that says what was
lost and why, and keeps the lost checkpoint beside the new one. It needs no server, and no server may run.

It brings nothing back: certificates that were issued after the backup are in the field, but unknown here, and their units
of the quota will be given out again. Whoever holds a checkpoint from after the backup can prove that the log forked.`,
		Example: "  touchmark audit accept-loss --dir /var/lib/touchmark --note 'disk of db1 died on 20 November, last backup 04:00'",
	}
	configFlag(c, &file)
	c.Flags().StringVar(&note, "note", "", "why, for those who read the log; it is public (required)")
	_ = c.MarkFlagRequired("note")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := a.config(file)
		if err != nil {
			return err
		}
		done, err := server.AcceptLoss(cmd.Context(), config, note, func(l audit.Loss) error {
			return a.confirm(fmt.Sprintf("The log was signed with %s, and the database has %s. What the last %s told of is lost for good,\nand the log, which is public, will say so.",
				counted(l.Signed.Size, "leaf", "leaves"), count(l.Have), count(l.Signed.Size-l.Have)))
		}, server.Environment{})
		if err != nil {
			return err
		}
		if done == nil {
			fmt.Fprintln(a.out, "Nothing is lost: the log goes at least as far as the checkpoint that was signed.")
			return nil
		}
		return a.tell(done, func(w io.Writer) {
			fmt.Fprintf(w, "accepted\tleaf %d says what was lost\n", done.Leaf)
			fmt.Fprintf(w, "kept\t%s\n", done.Kept)
		})
	}
	return a.jsonFlag(a.yesFlag(c))
}
