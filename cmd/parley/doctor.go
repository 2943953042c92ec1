package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/parley-im/parley/server"
)

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor DIR",
		Short: "Check a store that no server is using",
		Long: "Doctor reads everything in the store DIR and says what is damaged: which file, which messages of which stream, and\n" +
			"what to do. It changes nothing. A store in use is refused: check a backup of it with \"parley restore --verify\",\n" +
			"or restore one elsewhere.\n\n" +
			"The exit code is 0 when the store is sound, 1 when it is damaged, and 3 when it is in use.",
		Example:           "  parley doctor /var/lib/parley\n  parley doctor --json /var/lib/parley",
		Args:              between(1, 1),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	}
	asJSON := c.Flags().Bool("json", false, "print an object of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		report, err := server.CheckStore(c.Context(), args[0], progress(c.ErrOrStderr()))
		if err != nil {
			return err
		}
		if *asJSON {
			err = json.NewEncoder(c.OutOrStdout()).Encode(report)
		} else {
			err = printReport(c.OutOrStdout(), &report)
		}
		if err == nil && !report.Sound() {
			err = fmt.Errorf("%s is damaged: %d faults", args[0], len(report.Faults)+report.More)
		}
		return err
	}
	return c
}

// progress shows how far a check is, to somebody who watches.
func progress(w io.Writer) func(done, total int64) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(done, total int64) {
		tell(w, "\r%3d %% of %d MiB read ", 100*done/total, total>>20)
		if done == total {
			tell(w, "\r\033[K")
		}
	}
}

// holds says what is in a store.
func holds(r *server.Report) string {
	return fmt.Sprintf("%d messages in %d streams, %d records, %d ids of publishes, last seq %d, in %d files of %d bytes",
		r.Messages, r.Streams, r.Records, r.Keys, r.Last, r.Files, r.Bytes)
}

func printReport(w io.Writer, r *server.Report) error {
	for _, f := range r.Faults {
		if _, err := fmt.Fprintf(w, "damaged: %s\n    what to do: %s\n", f, f.Advice); err != nil {
			return err
		}
	}
	if r.More > 0 {
		tell(w, "and %d more\n", r.More)
	}
	for _, n := range r.Notes {
		tell(w, "note: %s\n", n)
	}
	word := "sound"
	if !r.Sound() {
		word = "what can be read"
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", word, holds(r))
	return err
}
