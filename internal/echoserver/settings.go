package echoserver

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A setting comes from the command line, or else from the environment, or else from a file. All three use the names and the values of
// the flags.

// variable returns the name of a flag's environment variable: ECHOSERVER_MAX_SESSIONS for -max-sessions.
func variable(flag string) string {
	return "ECHOSERVER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// complete sets the flags that the command line does not set, from the environment and the file. *file is the path of the file, which
// the command line or the environment may set. A variable that names no flag is ignored, because orchestrators set variables with this
// prefix for a service of this name.
func complete(fs *flag.FlagSet, environ []string, file *string) error {
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })

	env := make(map[string]string)
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	var names []string
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		names = append(names, f.Name)
		name := variable(f.Name)
		if env[name] == "" || set[f.Name] {
			return
		}
		set[f.Name] = true
		if err := fs.Set(f.Name, env[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, env[name], err))
		}
	})
	if len(errs) > 0 || *file == "" {
		return errors.Join(errs...)
	}

	data, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("-config: %w", err)
	}
	values, err := parseFile(data, names)
	if err != nil {
		return fmt.Errorf("-config: %s, %w", *file, err)
	}
	for _, name := range names {
		value, there := values[name]
		if !there || set[name] {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("-config: %s: %s = %q: %w", *file, name, value, err)
		}
	}
	return nil
}

// configFlag is the flag that a file cannot set.
const configFlag = "config"

// parseFile parses a TOML file whose keys are names of flags. It returns their values in the form that a command line has. Its error
// names the line.
func parseFile(data []byte, names []string) (map[string]string, error) {
	// Decode into a struct with a field for each known key: only for a key without a field does the library tell the line.
	var fields []reflect.StructField
	for _, name := range names {
		if name != configFlag {
			fields = append(fields, reflect.StructField{
				Name: fmt.Sprintf("F%d", len(fields)),
				Type: reflect.TypeFor[any](),
				Tag:  reflect.StructTag(`toml:"` + name + `"`),
			})
		}
	}
	keys := reflect.New(reflect.StructOf(fields))
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(keys.Interface())
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return nil, fmt.Errorf("line %d: unknown key %q; the keys are the names of the flags", line,
			strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		line, _ := bad.Position()
		return nil, fmt.Errorf("line %d: %w", line, err)
	case err != nil:
		return nil, err
	}
	values := make(map[string]string)
	for i, f := range fields {
		name := strings.TrimSuffix(strings.TrimPrefix(string(f.Tag), `toml:"`), `"`)
		switch v := keys.Elem().Field(i).Interface().(type) {
		case nil:
		case string:
			values[name] = v
		case int64, bool:
			values[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("key %q: want text in quotes, a whole number, true or false", name)
		}
	}
	return values, nil
}
