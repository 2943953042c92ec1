package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
)

// grantHelp says what a grant is.
const grantHelp = "A GRANT is operations and a topic, such as publish,history:/orders/*. The operations are publish, subscribe, history,\n" +
	"presence, send (to a user's inbox) and admin, or all for all but admin. It covers the topic and everything below it; a\n" +
	"segment * stands for any one, and {user} for the user's own name. To let somebody send to everybody:\n" +
	"'send:/$inbox/*'."

func newGrant() *cobra.Command {
	c := group("grant", "What a user may do: add, remove, list")
	c.AddCommand(newGrantList(), newGrantAdd(), newGrantRemove())
	return c
}

func newGrantList() *cobra.Command {
	c := &cobra.Command{
		Use: "list USER", Short: "List what a user has been granted",
		Long:    "List shows the grants of the user's record. Those that everybody has are configured, and those of a token are in it.",
		Example: "  parley grant list ann", Args: between(1, 1),
	}
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		var u person
		if err := call(c.Context(), http.MethodGet, *server, path, &u); err != nil {
			return err
		}
		return printGrants(c, u.Grants)
	}
	return c
}

func printGrants(c *cobra.Command, grants []string) error {
	for _, g := range grants {
		if _, err := fmt.Fprintln(c.OutOrStdout(), g); err != nil {
			return err
		}
	}
	return nil
}

func newGrantAdd() *cobra.Command {
	c := &cobra.Command{
		Use: "add USER GRANT...", Short: "Let a user do more",
		Long:    "Add adds to what the user may do, and prints all of it. It counts from the user's next connection on.\n\n" + grantHelp,
		Example: "  parley grant add ann publish,subscribe,history:/orders/*\n  parley grant add ann 'send:/$inbox/*'", Args: between(2, 100),
	}
	changesGrants(c, func(has, given []string) ([]string, error) {
		for _, g := range given {
			if !slices.Contains(has, g) {
				has = append(has, g)
			}
		}
		return has, nil
	})
	return c
}

func newGrantRemove() *cobra.Command {
	c := &cobra.Command{
		Use: "remove USER GRANT...", Short: "Let a user do less",
		Long: "Remove takes away grants, written as list shows them, and prints what is left. The user's sessions end within\n" +
			"seconds, so that they come back with less.",
		Example: "  parley grant remove ann publish,subscribe,history:/orders/*", Args: between(2, 100),
	}
	changesGrants(c, func(has, given []string) ([]string, error) {
		left := []string{}
		for _, g := range has {
			if !slices.Contains(given, g) {
				left = append(left, g)
			}
		}
		for _, g := range given {
			if !slices.Contains(has, g) {
				return nil, fmt.Errorf("the user has no grant %s: %w", g, parley.ErrNotFound)
			}
		}
		return left, nil
	})
	return c
}

// changesGrants makes c read a user's grants and write them back as change makes
// them, again if somebody else changed the user meanwhile.
func changesGrants(c *cobra.Command, change func(has, given []string) ([]string, error)) {
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0])
		if err != nil {
			return err
		}
		for range 10 {
			var grants []string
			grants, err = changeGrants(c.Context(), *server, path, func(has []string) ([]string, error) { return change(has, args[1:]) })
			if err == nil {
				return printGrants(c, grants)
			}
			if !errors.Is(err, parley.ErrConflict) {
				return err
			}
		}
		return err
	}
}

func changeGrants(ctx context.Context, server, path string, change func([]string) ([]string, error)) ([]string, error) {
	var u person
	tag, err := demand{method: http.MethodGet, server: server, path: path}.exchange(ctx, &u)
	if err != nil {
		return nil, err
	}
	grants, err := change(u.Grants)
	if err != nil {
		return nil, err
	}
	d := demand{method: http.MethodPatch, server: server, path: path, body: map[string]any{"grants": grants}, match: tag}
	err = d.send(ctx, &u)
	return u.Grants, err
}
