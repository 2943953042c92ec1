package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-im/parley/server"
)

// settingsFlags gives a command all settings of the server as flags, and
// --config. The function that it returns says what the configuration is read
// from, once the flags are parsed.
func settingsFlags(c *cobra.Command) func() server.Sources {
	given := map[string][]string{}
	flags := c.Flags()
	flags.SortFlags = false
	var groups []*pflag.FlagSet
	for _, s := range server.Settings() {
		usage := s.Usage
		if s.Switch && s.Default == "true" {
			usage += "; --no-" + s.Flag() + " does not"
		}
		f := flags.VarPF(&settingFlag{setting: s, given: given}, s.Flag(), "", usage)
		f.DefValue = s.Default
		f.Hidden = s.Instead != ""
		if s.Switch {
			f.NoOptDefVal = "true"
			no := flags.VarPF(&settingFlag{setting: s, given: given, not: true}, "no-"+s.Flag(), "", "not --"+s.Flag())
			no.NoOptDefVal = "true"
			no.Hidden = true
		}
		if f.Hidden {
			continue
		}
		if len(groups) == 0 || groups[len(groups)-1].Name() != s.Group {
			group := pflag.NewFlagSet(s.Group, pflag.ContinueOnError)
			group.SortFlags = false
			groups = append(groups, group)
		}
		groups[len(groups)-1].AddFlag(f)
	}
	file := flags.String("config", "", "YAML `FILE` with settings; PARLEY_CONFIG in the environment")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag is there
	// The Gobbler server documented some names with underscores.
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	c.SetUsageFunc(func(c *cobra.Command) error { return settingsUsage(c, groups) })
	return func() server.Sources {
		src := server.Sources{File: *file, Environ: os.Environ(), Flags: given}
		if !flags.Changed("config") {
			src.File = os.Getenv("PARLEY_CONFIG")
		}
		return src
	}
}

// settingsUsage is the help of a command with all settings, under headings.
func settingsUsage(c *cobra.Command, groups []*pflag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", c.UseLine(), c.Example)
	rest := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		for _, group := range groups {
			if group.Lookup(f.Name) != nil {
				return
			}
		}
		rest.AddFlag(f)
	})
	for _, group := range groups {
		fmt.Fprintf(&b, "\n%s:\n%s", group.Name(), group.FlagUsages())
	}
	fmt.Fprintf(&b, "\nFlags:\n%s", rest.FlagUsages())
	_, err := fmt.Fprint(c.OutOrStderr(), b.String())
	return err
}

// settingFlag collects what is given for one setting's flag. Nothing is parsed
// here, so that all faults of all sources are reported together.
type settingFlag struct {
	setting server.Setting
	given   map[string][]string
	not     bool // it is the flag that switches off
}

// Set implements pflag.Value.
func (f *settingFlag) Set(value string) error {
	if f.not {
		switch value {
		case "true":
			value = "false"
		case "false":
			value = "true"
		}
	}
	key := f.setting.Flag()
	f.given[key] = append(f.given[key], value)
	return nil
}

// String implements pflag.Value.
func (f *settingFlag) String() string { return f.setting.Default }

// Type implements pflag.Value: it is what the help shows for the value.
func (f *settingFlag) Type() string {
	if f.setting.Switch {
		return "bool"
	}
	return f.setting.Value
}
