package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// person is what a server tells of a user.
type person struct {
	User      string    `json:"user"`
	Display   string    `json:"display,omitempty"`
	Email     string    `json:"email,omitempty"`
	Created   time.Time `json:"created"`
	Suspended bool      `json:"suspended"`
	Grants    []string  `json:"grants"`
	Devices   int       `json:"devices"`
	Quota     string    `json:"quota"`
	// QuotaBytes is 0 without bound, and UsedBytes nil while nothing is counted.
	QuotaBytes int64     `json:"quota_bytes,omitempty"`
	UsedBytes  *int64    `json:"used_bytes,omitempty"`
	NotBefore  time.Time `json:"not_before,omitzero"`
}

func newUser() *cobra.Command {
	c := group("user", "Users: make, look at, change, suspend, delete, export")
	c.AddCommand(newUserCreate(), newUserList(), newUserShow(), newUserChange(), newUserSuspend(), newUserResume(), newUserDelete(), newUserExport())
	return c
}

// userPath is where the HTTP API has a user, and what belongs to them.
func userPath(c *cobra.Command, name string, below ...string) (string, error) {
	name, err := parley.ParseUser(name)
	if err != nil {
		return "", usage(c.CommandPath(), "%w", err)
	}
	var path strings.Builder
	path.WriteString("/v1/users/" + url.PathEscape(name))
	for _, segment := range below {
		path.WriteString("/" + url.PathEscape(segment))
	}
	return path.String(), nil
}

func jsonFlag(c *cobra.Command, what string) *bool {
	return c.Flags().Bool("json", false, "print "+what+" as JSON")
}

// moment is a time for people; a time that is not there is a dash.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func newUserCreate() *cobra.Command {
	c := &cobra.Command{
		Use:   "create USER",
		Short: "Make a user",
		Long: "Who signs in with a credential that the server accepts becomes a user by that; create makes one before, with grants.\n" +
			"Names are kept in lower case.",
		Example: "  parley user create ann\n  parley user create ann --display \"Ann A.\" --grant publish,subscribe,history:/orders/* --grant 'send:/$inbox/*'\n  parley user create billing --quota none",
		Args:    between(1, 1),
	}
	server := serverFlag(c)
	flags := c.Flags()
	display := flags.String("display", "", "the `NAME` that people read")
	email := flags.String("email", "", "an e-mail `ADDRESS`")
	suspended := flags.Bool("suspended", false, "the user may not connect yet")
	grants := grantFlag(c, "what the user may do")
	quota := quotaFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		body := map[string]any{"user": args[0], "display": *display, "email": *email, "suspended": *suspended, "grants": *grants, "quota": *quota}
		var u person
		d := demand{method: http.MethodPost, server: *server, path: "/v1/users", body: body}
		if err := d.send(c.Context(), &u); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "created %s\n", u.User)
		return err
	}
	return c
}

// grantFlag adds the flag --grant, which can be repeated.
func grantFlag(c *cobra.Command, what string) *[]string {
	return c.Flags().StringArray("grant", []string{}, what+": a `GRANT` such as publish,history:/orders/*; can be repeated")
}

// quotaFlag adds the flag --quota.
func quotaFlag(c *cobra.Command) *string {
	return c.Flags().String("quota", "default", "the `SIZE` that the user may have stored, such as 100MiB; none is without bound, default as everybody (parley serve --user-quota)")
}

func newUserChange() *cobra.Command {
	c := &cobra.Command{
		Use:   "change USER",
		Short: "Change what is kept of a user",
		Long: "Change sets what its flags give, and leaves the rest as it is. A quota counts at once, for those who are connected\n" +
			"too: what is over it stays stored, and nothing more of the user's is.",
		Example: "  parley user change ann --quota 100MiB\n  parley user change ann --quota default --display 'Ann B.'", Args: between(1, 1),
	}
	server := serverFlag(c)
	flags := c.Flags()
	flags.String("display", "", "the `NAME` that people read")
	flags.String("email", "", "an e-mail `ADDRESS`")
	quotaFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		body := map[string]any{}
		for _, name := range []string{"display", "email", "quota"} {
			if f := flags.Lookup(name); f.Changed {
				body[name] = f.Value.String()
			}
		}
		if len(body) == 0 {
			return usage(c.CommandPath(), "nothing to change: give --display, --email or --quota")
		}
		var u person
		d := demand{method: http.MethodPatch, server: *server, path: path, body: body}
		if err := d.send(c.Context(), &u); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "changed %s\n", u.User)
		return err
	}
	return c
}

func newUserList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the users", Example: "  parley user list\n  parley user list --json | jq -r .user", Args: between(0, 0),
	}
	server := serverFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return list(c, listing[person]{
			server: *server, path: "/v1/users", member: "users", asJSON: *asJSON,
			head: "USER\tDISPLAY\tDEVICES\tUSED\tSTATE\tCREATED\n",
			row: func(u person) string {
				return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s\n", u.User, dash(u.Display), u.Devices, u.stored(), stateOf(u), moment(u.Created))
			},
			id: func(u person) string { return u.User },
		})
	}
	return c
}

// stored says how much of the quota is used.
func (u *person) stored() string {
	used, quota := "-", ""
	if u.UsedBytes != nil {
		used = server.FormatSize(*u.UsedBytes)
	}
	if u.QuotaBytes > 0 {
		quota = " of " + server.FormatSize(u.QuotaBytes)
	}
	return used + quota
}

func stateOf(u person) string {
	if u.Suspended {
		return "suspended"
	}
	return "active"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listing is a list that the HTTP API has in pages.
type listing[T any] struct {
	server, path, member string
	query                url.Values
	asJSON               bool
	head                 string
	row                  func(T) string
	id                   func(T) string
	once                 bool // there is one page only
}

// list prints all of l.
func list[T any](c *cobra.Command, l listing[T]) error {
	query := l.query
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "1000")
	out := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	if !l.asJSON {
		tell(out, "%s", l.head)
	}
	for {
		items, more, err := l.page(c.Context(), query)
		if err != nil {
			return err
		}
		for _, item := range items {
			if l.asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(item); err != nil {
					return err
				}
				continue
			}
			tell(out, "%s", l.row(item))
		}
		if !more || len(items) == 0 || l.once {
			return out.Flush()
		}
		query.Set("after", l.id(items[len(items)-1]))
	}
}

func (l *listing[T]) page(ctx context.Context, query url.Values) (items []T, more bool, err error) {
	var page map[string]json.RawMessage
	if err := call(ctx, http.MethodGet, l.server, l.path+"?"+query.Encode(), &page); err != nil {
		return nil, false, err
	}
	err = errors.Join(json.Unmarshal(page[l.member], &items), json.Unmarshal(page["more"], &more))
	return items, more, err
}

func newUserShow() *cobra.Command {
	c := &cobra.Command{Use: "show USER", Short: "Look at a user", Example: "  parley user show ann\n  parley user show ann --json", Args: between(1, 1)}
	server := serverFlag(c)
	asJSON := jsonFlag(c, "the user")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		var u person
		if err := call(c.Context(), http.MethodGet, *server, path, &u); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(u)
		}
		out := c.OutOrStdout()
		tell(out, "user        %s\ndisplay     %s\nemail       %s\nstate       %s\ncreated     %s\ndevices     %d\n",
			u.User, dash(u.Display), dash(u.Email), stateOf(u), moment(u.Created), u.Devices)
		tell(out, "stored      %s (quota: %s)\n", u.stored(), u.Quota)
		if !u.NotBefore.IsZero() {
			tell(out, "revoked     what was issued before %s\n", moment(u.NotBefore))
		}
		for _, g := range u.Grants {
			tell(out, "grant       %s\n", g)
		}
		return nil
	}
	return c
}

func newUserSuspend() *cobra.Command {
	c := &cobra.Command{
		Use:   "suspend USER",
		Short: "Shut a user out, and keep what is sent to them",
		Long: "Suspend ends the user's sessions within seconds, and no credential of theirs is accepted until resume. Messages to\n" +
			"them are kept.",
		Example: "  parley user suspend ann", Args: between(1, 1),
	}
	suspends(c, true, "suspended")
	return c
}

func newUserResume() *cobra.Command {
	c := &cobra.Command{Use: "resume USER", Short: "Let a suspended user in again", Example: "  parley user resume ann", Args: between(1, 1)}
	suspends(c, false, "resumed")
	return c
}

func suspends(c *cobra.Command, suspended bool, done string) {
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		var u person
		d := demand{method: http.MethodPatch, server: *server, path: path, body: map[string]any{"suspended": suspended}}
		if err := d.send(c.Context(), &u); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s\n", done, u.User)
		return err
	}
}

func newUserDelete() *cobra.Command {
	c := &cobra.Command{
		Use:   "delete USER",
		Short: "Delete a user with everything of theirs",
		Long: "Delete shuts the user out and removes their inbox, dead letters, cursors, devices, keys, certificates and links to\n" +
			"other sign-ins. There is no way back, so it asks unless --yes is given. When it fails half way, the user stays out,\n" +
			"and the same command does the rest.",
		Example: "  parley user export ann > ann.jsonl && parley user delete ann\n  parley user delete ann --yes", Args: between(1, 1),
	}
	server := serverFlag(c)
	yes := c.Flags().Bool("yes", false, "do not ask")
	asJSON := jsonFlag(c, "what was removed")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		if !*yes {
			if err := confirm(c, fmt.Sprintf("Delete %s and all that is theirs for good? Type yes: ", strings.ToLower(args[0]))); err != nil {
				return err
			}
		}
		var removed struct {
			User         string `json:"user"`
			Messages     int    `json:"messages"`
			DeadLetters  int    `json:"dead_letters"`
			Cursors      int    `json:"cursors"`
			Devices      int    `json:"devices"`
			Keys         int    `json:"keys"`
			Certificates int    `json:"certificates"`
			Links        int    `json:"links"`
		}
		if err := call(c.Context(), http.MethodDelete, *server, path, &removed); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(removed)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "deleted %s: %d messages, %d dead letters, %d cursors, %d devices, %d keys, %d certificates, %d links\n",
			removed.User, removed.Messages, removed.DeadLetters, removed.Cursors, removed.Devices, removed.Keys, removed.Certificates, removed.Links)
		return err
	}
	return c
}

func newUserExport() *cobra.Command {
	c := &cobra.Command{
		Use:   "export USER",
		Short: "Write everything that is stored about a user",
		Long: "Export writes an object of JSON on each line: the record, devices, keys without their secrets, certificates, links,\n" +
			"and the messages. The member kind says what a line is.",
		Example: "  parley user export ann > ann.jsonl", Args: between(1, 1),
	}
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0], "export")
		if err != nil {
			return err
		}
		req, err := adminRequest(c.Context(), http.MethodGet, *server, path)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return problem(resp)
		}
		if _, err := io.Copy(c.OutOrStdout(), resp.Body); err != nil {
			return fmt.Errorf("the export is not complete: %w: %w", parley.ErrUnavailable, err)
		}
		return nil
	}
	return c
}
