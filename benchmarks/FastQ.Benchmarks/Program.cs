using BenchmarkDotNet.Running;

// Every benchmark class of this program, chosen by the usual options: --filter '*', --job short, --list flat.
return BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args).Any() ? 0 : 1;
