package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

func newBackup() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up a store, also while the server runs",
		Long: "Backup writes everything that a store holds at one instant into FILE, or to stdout when FILE is -: every message\n" +
			"that was acknowledged before, whole, and of what was being published the beginning. It asks the server on this\n" +
			"machine, which goes on working meanwhile; with --storage-path it reads the directory of a server that does not\n" +
			"run.\n\n" +
			"FILE is a tar with checksums, see \"parley restore\". It appears when it is complete and was read back.",
		Example: "  parley backup parley-$(date +%F).tar\n" +
			"  parley backup --rate 20MiB parley.tar\n" +
			"  parley backup - | zstd | ssh vault 'cat > parley.tar.zst'\n" +
			"  parley backup --storage-path /var/lib/parley parley.tar",
		Args:              between(1, 1),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	address := serverFlag(c)
	dir := c.Flags().String("storage-path", "", "back up this `DIR`, which no server is using")
	rateText := c.Flags().String("rate", "", "read at most `SIZE` in a second, such as 20MiB")
	force := c.Flags().Bool("force", false, "replace FILE if it exists")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *dir != "" && c.Flags().Changed("server") {
			return usage(c.CommandPath(), "give --server or --storage-path, not both")
		}
		rate := int64(0)
		if *rateText != "" {
			var err error
			if rate, err = server.ParseSize(*rateText); err != nil || rate == 0 {
				return usage(c.CommandPath(), "--rate must be a size such as 20MiB")
			}
		}
		source := func(ctx context.Context, w io.Writer) (server.Archive, error) {
			if *dir != "" {
				return server.BackupStore(ctx, *dir, w, rate)
			}
			return download(ctx, *address, rate, w)
		}
		if args[0] == "-" {
			a, err := source(c.Context(), c.OutOrStdout())
			if err != nil {
				return err
			}
			tell(c.ErrOrStderr(), "%s\n", summary(a))
			return nil
		}
		a, err := backupFile(c.Context(), args[0], *force, source)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", args[0], summary(a))
		return err
	}
	return c
}

// summary says what an archive is.
func summary(a server.Archive) string {
	return fmt.Sprintf("%d files, %d bytes, up to seq %d, taken %s by parley %s",
		a.Files, a.Bytes, a.Last, a.Taken.Local().Format("2006-01-02 15:04:05"), a.Version)
}

// backupFile makes a file from source. It has its name when it is durable and
// was read back, and not before.
func backupFile(ctx context.Context, name string, force bool, source func(context.Context, io.Writer) (server.Archive, error)) (server.Archive, error) {
	if _, err := os.Lstat(name); err == nil && !force {
		return server.Archive{}, fmt.Errorf("%s exists; --force replaces it: %w", name, parley.ErrConflict)
	}
	partial := name + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return server.Archive{}, err
	}
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // whoever asks for a backup names the file
	if err != nil {
		return server.Archive{}, err
	}
	a, err := fillBackup(ctx, f, source)
	if err := errors.Join(err, f.Close()); err != nil {
		return server.Archive{}, errors.Join(err, os.Remove(partial))
	}
	if err := os.Rename(partial, name); err != nil {
		return server.Archive{}, err
	}
	return a, syncDirectory(filepath.Dir(name))
}

func fillBackup(ctx context.Context, f *os.File, source func(context.Context, io.Writer) (server.Archive, error)) (server.Archive, error) {
	if _, err := source(ctx, f); err != nil {
		return server.Archive{}, err
	}
	if err := f.Sync(); err != nil {
		return server.Archive{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return server.Archive{}, err
	}
	return server.VerifyArchive(ctx, f)
}

// syncDirectory makes a new name durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the directory of the user's own file
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// download asks the server for a backup, writes it to w, and checks it on the
// way.
func download(ctx context.Context, address string, rate int64, w io.Writer) (server.Archive, error) {
	path := "/admin/backup"
	if rate > 0 {
		path += "?rate=" + strconv.FormatInt(rate, 10)
	}
	req, err := adminRequest(ctx, http.MethodGet, address, path)
	if err != nil {
		return server.Archive{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return server.Archive{}, fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return server.Archive{}, problem(resp)
	}
	body := io.TeeReader(resp.Body, w)
	a, err := server.VerifyArchive(ctx, body)
	if err != nil {
		return server.Archive{}, err
	}
	_, err = io.Copy(io.Discard, body)
	return a, err
}
