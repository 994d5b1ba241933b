#!/usr/bin/env escript
%% Erlang's ssl: client.erl HOST PORT CA; without arguments, its version.
main([]) ->
    ok = application:load(ssl),
    {ok, Version} = application:get_key(ssl, vsn),
    io:format("~s~n", [Version]);
main([Host, Port, Ca]) ->
    {ok, _} = application:ensure_all_started(ssl),
    Options = [{verify, verify_peer}, {cacertfile, Ca}, {server_name_indication, Host}, {active, false}, binary,
               {log_level, none}, {customize_hostname_check, [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}]}],
    case ssl:connect(Host, list_to_integer(Port), Options) of
        {ok, Socket} ->
            ok = ssl:send(Socket, ["GET / HTTP/1.1\r\nHost: ", Host, "\r\n\r\n"]),
            {ok, _} = ssl:recv(Socket, 0),
            halt(0);
        Error ->
            io:format(standard_error, "~p~n", [Error]),
            halt(1)
    end.
