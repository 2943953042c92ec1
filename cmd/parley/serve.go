package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/parley-im/parley/server"
)

func newServe() *cobra.Command {
	var file string
	var checkOnly bool
	flags := map[string][]string{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Serve runs the server until it gets SIGTERM or SIGINT; then it says goodbye to its clients and stops. A second\n" +
			"signal ends it at once.\n\n" +
			"Every flag can also be given in the environment (--storage-path as PARLEY_STORAGE_PATH; a repeatable one holds\n" +
			"values separated by spaces) and in a YAML file named by --config (storage-path: DIR). Flags win over the\n" +
			"environment, the environment over the file. There is no authentication yet: the server is for this machine\n" +
			"alone unless --open-to-network says otherwise.",
		Example: "  parley serve\n" +
			"  parley serve --http 127.0.0.1:9000 --storage-path /var/lib/parley\n" +
			"  parley serve --retention orders=age:30d,bytes:10GiB --retention '*=messages:1000000'\n" +
			"  parley serve --config /etc/parley.yaml --check-config",
		Args: between(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv("PARLEY_CONFIG")
			}
			cfg, err := server.Load(server.Sources{File: file, Environ: os.Environ(), Flags: flags})
			if err != nil {
				return err
			}
			if checkOnly {
				_, err := fmt.Fprintln(c.OutOrStdout(), "the configuration is good")
				return err
			}
			cfg.Logger = cfg.Log.Logger(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())))
			return serve(c, cfg)
		},
	}
	for _, s := range server.Settings() {
		f := c.Flags().VarPF(&settingFlag{setting: s, given: flags}, s.Flag(), "", s.Usage)
		if s.Switch {
			f.NoOptDefVal = "true"
		}
		f.DefValue = s.Default
	}
	c.Flags().StringVar(&file, "config", "", "YAML `FILE` with settings; PARLEY_CONFIG in the environment")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag is there
	c.Flags().BoolVar(&checkOnly, "check-config", false, "check the configuration and exit")
	c.Flags().SortFlags = false
	return c
}

// serve runs the server and greets whoever started it.
func serve(c *cobra.Command, cfg server.Config) error {
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), s.Greeting()); err != nil {
		return err
	}
	return s.Run(c.Context())
}

// settingFlag collects what is given for one setting's flag. Nothing is parsed
// here, so that all faults of all sources are reported together.
type settingFlag struct {
	setting server.Setting
	given   map[string][]string
}

// Set implements pflag.Value.
func (f *settingFlag) Set(value string) error {
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
